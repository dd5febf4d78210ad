"""Of which queries the influence of tokens is estimated."""

from __future__ import annotations

import torch


def sample_queries(tokens: int, count: int, choices: int, *, generator: torch.Generator) -> torch.Tensor:
    """(choices, count) int64, ascending: `count` of `tokens` queries, for each choice independently of the others.

    The row of queries is cut into `count` strata of the same length and one is drawn of each, so that all parts of a
    picture have their say. A query that two strata share is drawn in proportion to its parts, perhaps twice: each is
    expected count / tokens times, which is what makes `attention_column_sums(query_index=…)` unbiased.
    All of them are drawn where `count` equals `tokens`. They lie where `generator` lives.
    """
    # of the integers below count · tokens each is as likely as any other, and `count` of them fall on each query
    within = torch.randint(tokens, (choices, count), generator=generator, device=generator.device)
    return (torch.arange(count, device=generator.device) * tokens + within) // count
