"""What is read off an attention whose padding may look at everything."""

from __future__ import annotations

import pytest
import torch

from tocache.engine.probe import Seen
from tocache.engine.reading import _attend_and_sum

TEXT, IMAGE = 3, 5  # tokens, the text's first


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
def test_how_much_padding_there_is_does_not_count(dtype: torch.dtype) -> None:
    """A row with padding before its text, which looks at all tokens, and the same row without."""
    generator = torch.Generator().manual_seed(0)
    padding, tokens = 4, TEXT + IMAGE
    query, key, value = torch.randn(3, 1, 2, padding + tokens, 6, generator=generator).unbind()
    causal = torch.ones(tokens, tokens, dtype=torch.bool)
    causal[:TEXT] = torch.ones(TEXT, tokens, dtype=torch.bool).tril()
    mask = torch.ones(1, 1, padding + tokens, padding + tokens, dtype=torch.bool)
    mask[:, :, padding:, :padding] = False
    mask[:, :, padding:, padding:] = causal
    there = torch.arange(padding + tokens)[None] >= padding

    def read(start: int, present: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        part = mask[:, :, start:, start:]
        given = part if dtype == torch.bool else torch.zeros(part.shape).masked_fill(~part, torch.finfo(dtype).min)
        parts = (tensor[:, :, start:] for tensor in (query, key, value))
        return _attend_and_sum(Seen(*parts, mask=given, scale=None, plain=True), lambda: present)

    output, sums = read(0, there)
    alone, expected = read(padding, None)
    torch.testing.assert_close(output[:, :, padding:], alone)
    torch.testing.assert_close(sums[:, padding:], expected)
    assert (sums[:, :padding] == 0).all()
