"""Sees the queries and keys of an attention module, whatever processor it has, while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


@dataclass(slots=True)
class Seen:
    """The arguments of one call of scaled-dot-product attention."""

    query: torch.Tensor  # (rows, heads, queries, channels)
    key: torch.Tensor  # (rows, heads or fewer, keys, channels)
    value: torch.Tensor
    mask: torch.Tensor | None
    scale: float | None
    plain: bool  # neither causal nor with dropout

    def attend(self) -> torch.Tensor:
        """What a plain call returns, (rows, heads, queries, channels)."""
        grouped = self.key.shape[1] != self.query.shape[1]
        return F.scaled_dot_product_attention(
            self.query, self.key, self.value, attn_mask=self.mask, scale=self.scale, enable_gqa=grouped
        )


class Probe(TorchFunctionMode):
    """While active, hands every call of `F.scaled_dot_product_attention` in this thread to `look`.

    What `look` returns is the result of the call; where it returns None, the call runs as it is.
    """

    def __init__(self, look: Callable[[Seen], torch.Tensor | None]) -> None:
        super().__init__()
        self.look = look

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            output = self.look(_seen(*args, **kwargs))
            if output is not None:
                return output
        return func(*args, **kwargs)


def _seen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Seen:
    return Seen(query, key, value, attn_mask, scale, plain=dropout_p == 0.0 and not is_causal)
