"""Base scores of tokens, one function each, and what is added to them: float32 (B, N), higher is computed first.

s1 to s4 are the scores of the ToCa paper (arXiv 2410.05317, section 3), computed as its published code does.
B counts the rows of the batch, both guidance halves included; N counts tokens. Everything is computed in float32
whatever the inputs' dtype: neighbouring scores often differ by a millionth, which bfloat16 cannot tell apart.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F


def score_influence(column_sums: torch.Tensor) -> torch.Tensor:
    """ToCa's s1: how much attention all tokens pay to a token.

    `column_sums` (B, N) are the column sums of the head-mean self-attention map, as `attention_column_sums` gives
    them. Their unit does not matter: the result has length 1 over the tokens of a row.
    """
    return _unit_length(column_sums.float())


def score_entropy(entropy: torch.Tensor) -> torch.Tensor:
    """ToCa's s2: how evenly a token attends to the text, of length 1 over the tokens of a row.

    `entropy` (B, N) in nats, as `attention_entropy` gives it. The published code adds 1 before it normalises, which
    keeps the order but changes how far apart the scores lie, and so their weight against staleness.
    """
    return _unit_length(1 + entropy.float())


def score_random(
    rows: int, tokens: int, *, generator: torch.Generator | None = None, device: torch.device | str | None = None
) -> torch.Tensor:
    """(rows, tokens) uniform in [0, 1): the control that ToCa's ablations compare with.

    Drawn where `generator` lives and then moved to `device`, so that one CPU generator gives the same tokens on every
    machine. For two guidance halves that choose together, draw half the rows and `.repeat(2, 1)` them.
    """
    source = device if generator is None else generator.device
    drawn = torch.rand(rows, tokens, generator=generator, device=source, dtype=torch.float32)
    return drawn.to(device, non_blocking=True)  # the host must not wait for all that the device has still to do


def score_norm(x: torch.Tensor) -> torch.Tensor:
    """Length of each token's feature; `x` (B, N, C). Published as score type "norm"."""
    return _unit_length(torch.linalg.vector_norm(x.float(), dim=-1))  # (B, N, C) -> (B, N)


def score_similarity(x: torch.Tensor, cached: torch.Tensor) -> torch.Tensor:
    """How far each token has turned from its cached feature: 1 − cosine; both (B, N, C). Published as "similarity"."""
    return _unit_length(1 - F.cosine_similarity(x.float(), cached.float(), dim=-1))  # (B, N, C) -> (B, N)


def score_value_norm(values: torch.Tensor) -> torch.Tensor:
    """Tokens with short attention values first; `values` (B, H, N, D). Published for DiT as "kv-norm".

    The sum over heads of 1 − |v|, so it is negative where values are long; its length over a row's tokens is 1.
    """
    lengths = torch.linalg.vector_norm(values.float(), dim=-1)  # (B, H, N, D) -> (B, H, N)
    return _unit_length((1 - lengths).sum(dim=1))


def score_key_norm(keys: torch.Tensor) -> torch.Tensor:
    """Tokens with long attention keys first: the mean over heads of |k|; `keys` (B, H, N, D).

    Published for FLUX as "k-norm". It prefers long vectors, where `score_value_norm` prefers short ones.
    """
    lengths = torch.linalg.vector_norm(keys.float(), dim=-1)  # (B, H, N, D) -> (B, H, N)
    return _unit_length(lengths.mean(dim=1))


def score_drift(drift: torch.Tensor) -> torch.Tensor:
    """Tokens first that moved farthest from what would have been served in their place.

    `drift` (B, N): per step, as the newest full step found (`PassCache.watch`). Where features are reused it is how
    far a token's feature moved between two full steps; where they are forecast, how wrong the forecast was.
    """
    return _unit_length(drift.float())


def multiply_staleness(score: torch.Tensor, age: torch.Tensor | int, *, weight: float, interval: int) -> torch.Tensor:
    """`score` · ((age + 1) / interval) ^ weight, for scores that are rates: what a stale token has lost until now.

    `score` (B, N); `age` as in `add_staleness`.
    """
    passed = (age.float() if isinstance(age, torch.Tensor) else age) + 1
    return score.float() * (passed / interval) ** weight


def add_staleness(score: torch.Tensor, age: torch.Tensor | int, *, weight: float, interval: int) -> torch.Tensor:
    """ToCa's s3: `score` + weight · age / interval, so that no token stays stale for ever.

    `score` (B, N); `age` counts the steps since a token was fresh: int (B, N), or one number for all tokens.
    `interval` is the configured interval in steps, also where a schedule stretches it.
    """
    if isinstance(age, torch.Tensor):
        age = age.float()  # an integer tensor times a float would take torch's default dtype, which hosts change
    return score.float() + weight * age / interval


def merge_halves(quantity: torch.Tensor, *, how: Literal["sum", "mean"]) -> torch.Tensor:
    """One quantity for both guidance halves of a batched pass, so that they choose the same tokens.

    `quantity` (2B, N): image i is row i of the first half and row i of the second. Returns (2B, N) float32 with equal
    halves. Entropies want "sum": each was taken of half the map (`attention_entropy(…, weight=0.5)`), and the halves
    attend to texts that share no column, so the published entropy of the merged map is the sum of both.
    An odd number of rows raises RuntimeError.
    """
    halves = quantity.float().reshape(2, -1, quantity.shape[1])  # (2B, N) -> (2, B, N)
    merged = halves.sum(dim=0) if how == "sum" else halves.mean(dim=0)
    return merged.repeat(2, 1)


def _unit_length(score: torch.Tensor) -> torch.Tensor:
    """Each row divided by its L2 norm; a row of zeros stays zero."""
    return F.normalize(score, p=2.0, dim=1, eps=1e-12)
