"""What the attention kernels are compared with: whole maps in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

Map = Callable[..., torch.Tensor]


@pytest.fixture(scope="session")
def head_mean_map() -> Map:
    """(B, M, N) float64: the attention map, averaged over heads; rows that see no key are zero."""

    def compute(
        query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None = None, scale: float | None = None
    ) -> torch.Tensor:
        query, key = query.double(), key.double()
        heads, group = query.shape[1], query.shape[1] // key.shape[1]
        maps = []
        for h in range(heads):
            logits = query[:, h] @ key[:, h // group].transpose(1, 2) * (scale or query.shape[-1] ** -0.5)
            if mask is not None:
                part = mask.expand(query.shape[0], heads, query.shape[2], key.shape[2])[:, h]
                logits = logits.masked_fill(~part, -torch.inf) if part.dtype == torch.bool else logits + part
            maps.append(torch.softmax(logits, dim=-1).nan_to_num(0.0))
        return torch.stack(maps).mean(dim=0)

    return compute


@pytest.fixture(scope="session")
def projected() -> Map:
    """Makes (B, H, N, D) as attention gets it: a transposed view of a (B, N, H·D) projection."""

    def draw(
        shape: tuple[int, int, int, int], *, seed: int = 0, gain: float = 1.0, dtype: torch.dtype = torch.float32
    ) -> torch.Tensor:
        batch, heads, tokens, dim = shape
        x = torch.randn(batch, tokens, heads * dim, generator=torch.Generator().manual_seed(seed)) * gain
        return x.to(dtype).view(batch, tokens, heads, dim).transpose(1, 2)

    return draw


@pytest.fixture(params=[1, 50, 2**19], ids=lambda elements: f"block{elements}")
def any_block_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a test with blocks of one row, with blocks that divide nothing, and with one block."""
    monkeypatch.setattr("tocache.kernels.attention_block._BLOCK_CPU", request.param)
