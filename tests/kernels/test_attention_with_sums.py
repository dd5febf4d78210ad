"""Attention and column sums in one go, against both done apart in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tocache.kernels import attention_column_sums, attention_with_column_sums
from tocache.kernels.attention_with_sums import _one_pass_pays


def inputs(heads: int, key_heads: int, queries: int, keys: int, dtype: torch.dtype):
    generator = torch.Generator().manual_seed(heads * queries + keys)

    def make(count: int, tokens: int) -> torch.Tensor:  # heads lie inside the tokens, as projections leave them
        return torch.randn(3, tokens, count, 9, generator=generator).to(dtype).transpose(1, 2)

    return make(heads, queries), make(key_heads, keys), make(key_heads, keys)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("heads", "key_heads", "queries", "keys"), [(4, 4, 17, 17), (6, 2, 5, 33), (1, 1, 1, 1)])
@pytest.mark.parametrize("masked", [None, "bool", "added"])
def test_output_and_sums_are_those_of_attention(dtype, heads, key_heads, queries, keys, masked):
    query, key, value = inputs(heads, key_heads, queries, keys, dtype)
    mask = None
    if masked is not None:
        allowed = torch.rand(3, 1, 1, keys, generator=torch.Generator().manual_seed(1)) < 0.7
        allowed[..., 0] = True
        mask = allowed if masked == "bool" else torch.zeros(allowed.shape, dtype=dtype).masked_fill(~allowed, -1e4)
    with torch.no_grad():
        assert _one_pass_pays(query, key) == (dtype != torch.float32)
        output, sums = attention_with_column_sums(query, key, value, mask=mask, scale=0.3)
        wide = None if mask is None else mask if masked == "bool" else mask.double()
        grouped = heads != key_heads
        q, k, v = query.double(), key.double(), value.double()
        exact = F.scaled_dot_product_attention(q, k, v, attn_mask=wide, scale=0.3, enable_gqa=grouped)
        tolerance = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]
        torch.testing.assert_close(output.double(), exact, rtol=tolerance, atol=tolerance)
        assert output.dtype == dtype
        expected = attention_column_sums(query, key, mask=mask, scale=0.3)
        torch.testing.assert_close(sums, expected, rtol=1e-5, atol=1e-6)


def test_one_pass_is_at_least_as_close_to_the_exact_output_as_torch_is():
    query, key, value = inputs(8, 8, 64, 64, torch.bfloat16)
    with torch.no_grad():
        exact = F.scaled_dot_product_attention(query.double(), key.double(), value.double())
        ours = (attention_with_column_sums(query, key, value)[0].double() - exact).abs().mean()
        torchs = (F.scaled_dot_product_attention(query, key, value).double() - exact).abs().mean()
    assert ours <= 1.01 * torchs


def test_maps_that_are_large_and_loops_with_gradients_keep_torchs_attention():
    query, key, value = inputs(2, 2, 1025, 1025, torch.bfloat16)
    with torch.no_grad():
        assert not _one_pass_pays(query, key)
        output, _ = attention_with_column_sums(query, key, value)
        assert torch.equal(output, F.scaled_dot_product_attention(query, key, value))
    query, key, value = (tensor[:, :, :8].requires_grad_() for tensor in (query, key, value))
    output, sums = attention_with_column_sums(query, key, value)
    assert torch.equal(output, F.scaled_dot_product_attention(query, key, value))
    assert output.requires_grad
    assert not sums.requires_grad
