"""The spread bonus against a loop over cells."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tocache.kernels import cell_bonus


def by_loop(score: torch.Tensor, grid: tuple[int, ...], size: int, weight: float) -> torch.Tensor:
    frames, (height, width) = (grid[0] if len(grid) == 3 else 1), grid[-2:]
    out = score.clone()
    for row, t in itertools.product(out, range(frames)):
        frame = row.view(frames, height, width)[t]
        for top, left in itertools.product(range(0, height, size), range(0, width, size)):
            cell = frame[top : top + size, left : left + size]
            values = [v for line in cell.tolist() for v in line]
            best = values.index(max(values))
            cell[best // cell.shape[1], best % cell.shape[1]] *= 1 + weight
    return out


@settings(max_examples=150, deadline=None)
@given(
    rows=st.integers(1, 3),
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)) | st.tuples(*[st.integers(1, 5)] * 3),
    size=st.integers(1, 5),
    levels=st.integers(1, 1000),
    seed=st.integers(0, 2**31),
)
def test_the_first_maximum_of_every_cell_gets_the_bonus(
    rows: int, grid: tuple[int, ...], size: int, levels: int, seed: int
) -> None:
    tokens = torch.Size(grid).numel()
    # few levels make ties, and half of them are negative
    draws = torch.randint(-levels, levels + 1, (rows, tokens), generator=torch.Generator().manual_seed(seed))
    score = draws / levels
    assert torch.equal(cell_bonus(score, grid, size=size, bonus=0.6), by_loop(score, grid, size, 0.6))


def test_a_grid_that_cells_do_not_divide_gives_a_bonus_at_its_edges() -> None:
    score = -torch.ones(1, 9)  # padding with zeros would win every edge cell
    expected = [[-1.5, -1, -1.5], [-1, -1, -1], [-1.5, -1, -1.5]]
    assert cell_bonus(score, (3, 3), size=2, bonus=0.5).view(3, 3).tolist() == expected


def test_cells_do_not_reach_across_frames() -> None:
    score = torch.arange(1.0, 9.0).view(1, 8)
    out = cell_bonus(score, (2, 2, 2), size=2, bonus=1.0)
    assert out.tolist() == [[1, 2, 3, 8, 5, 6, 7, 16]]


def test_a_cell_without_any_allowed_token_stays_as_it_is() -> None:
    score = torch.full((1, 4), -torch.inf)
    assert torch.equal(cell_bonus(score, (2, 2), size=2, bonus=0.6), score)


def test_the_input_is_left_alone_and_may_be_a_slice() -> None:
    joint = torch.rand(2, 5 + 6, generator=torch.Generator().manual_seed(0))
    image, before = joint[:, 5:], joint.clone()
    out = cell_bonus(image, (2, 3), size=2, bonus=0.6)
    assert torch.equal(joint, before)
    assert torch.equal(out, by_loop(image.contiguous(), (2, 3), 2, 0.6))


@pytest.mark.parametrize("grid", [(3, 3), (2, 3), (2, 2, 2)])
def test_a_grid_of_another_number_of_tokens_is_refused(grid: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError):
        cell_bonus(torch.zeros(2, 12), grid, size=2, bonus=0.6)
