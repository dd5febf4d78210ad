"""`spread_scores` in Triton: each program has some cells of one frame, and looks at each of their tokens once.

The tokens that no cell holds are few, or none; torch writes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import triton
import triton.language as tl

_CELLS = 64


@triton.jit
def spread_scores_kernel(
    score, age, out, weight, bonus, tokens, before, frames, height, width, across, cells, all_ages,
    s_b, s_n, a_b, a_n,
    size: tl.constexpr, S: tl.constexpr, CELLS: tl.constexpr, AGES: tl.constexpr,
) -> None:  # fmt: skip
    """`out` (B, N) contiguous float32, of a block of cells in one frame of one row; `weight` of one step of age."""
    pair, cell, inner = tl.program_id(1), tl.program_id(0) * CELLS + tl.arange(0, CELLS), tl.arange(0, S)
    b, frame = pair // frames, pair % frames
    y = (cell // across)[:, None] * size + (inner // size)[None, :]
    x = (cell % across)[:, None] * size + (inner % size)[None, :]
    inside = (cell[:, None] < cells) & (inner[None, :] < size * size) & (y < height) & (x < width)
    n = before + (frame * height + y) * width + x
    value = tl.load(score + b * s_b + n * s_n, inside, 0.0)
    if AGES:
        value += weight * tl.load(age + b * a_b + n * a_n, inside, 0).to(tl.float32)
    else:
        value += weight * all_ages
    seen = tl.where(inside, value, float("-inf"))
    top = tl.max(seen, 1)
    first = tl.min(tl.where(inside & (seen == top[:, None]), inner[None, :], S), 1)  # row-major within the cell
    value = tl.where(inner[None, :] == first[:, None], value * (1 + bonus), value)
    tl.store(out + b * tokens + n, value, inside)


def spread_scores_triton(
    score: torch.Tensor,
    age: torch.Tensor | int,
    grid: Sequence[int],
    *,
    staleness: float,
    interval: int,
    size: int,
    bonus: float,
    before: int,
) -> torch.Tensor:
    """`spread_scores` with every default filled in: (B, N) float32."""
    batch, tokens = score.shape
    frames, (height, width) = prod(grid[:-2]), grid[-2:]
    after = before + frames * height * width
    if after > tokens:
        raise RuntimeError(f"a grid of {after - before} tokens does not lie among {tokens} behind {before}")
    weight, across = staleness / interval, triton.cdiv(width, size)
    cells, of_each = across * triton.cdiv(height, size), isinstance(age, torch.Tensor)
    ages, all_ages = (age, 0) if isinstance(age, torch.Tensor) else (score, age)
    out = score.new_empty(batch, tokens)
    for rest in (slice(0, before), slice(after, tokens)):
        if rest.stop > rest.start:
            out[:, rest] = score[:, rest] + weight * (ages[:, rest].float() if of_each else all_ages)
    if out.numel():
        spread_scores_kernel[triton.cdiv(cells, _CELLS), batch * frames](
            score, ages, out, weight, bonus, tokens, before, frames, height, width, across, cells, all_ages,
            *score.stride(), *ages.stride(),
            size=size, S=triton.next_power_of_2(size * size), CELLS=_CELLS, AGES=of_each,
        )  # fmt: skip
    return out
