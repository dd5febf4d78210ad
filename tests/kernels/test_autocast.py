"""Scores are float32 whatever the caller's autocast says."""

from __future__ import annotations

import pytest
import torch

from tocache.kernels import attention_column_sums, attention_entropy, attention_with_column_sums


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_changes_no_score(dtype):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 19, 8, generator=generator).to(dtype) for _ in range(3))
    looks = (attention_column_sums, attention_entropy, lambda q, k: attention_with_column_sums(q, k, value)[1])
    with torch.no_grad():
        outside = [look(query, key) for look in looks]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = [look(query, key) for look in looks]
    for one, other in zip(inside, outside, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)
