"""Age and bonus against loops over tokens and cells, in float64."""

from __future__ import annotations

import itertools

import pytest
import torch

from tocache.kernels import cell_bonus, spread_scores
from tocache.tokens import add_staleness

from .places import BACKENDS, PLACE

SETTINGS = {"staleness": 0.25, "interval": 3, "size": 2, "bonus": 0.6}
GRIDS = [(1, 1), (4, 4), (5, 7), (3, 5, 4), (17, 33)]


def by_loop(
    score: torch.Tensor, age: torch.Tensor, grid: tuple[int, ...], before: int, size: int, bonus: float
) -> torch.Tensor:
    out = score.double() + 0.25 * age.double() / 3
    frames, (height, width) = (grid[0] if len(grid) == 3 else 1), grid[-2:]
    for row, t in itertools.product(out, range(frames)):
        frame = row[before : before + frames * height * width].view(frames, height, width)[t]
        for top, left in itertools.product(range(0, height, size), range(0, width, size)):
            cell = frame[top : top + size, left : left + size]
            values = [v for line in cell.tolist() for v in line]
            best = values.index(max(values))
            cell[best // cell.shape[1], best % cell.shape[1]] *= 1 + bonus
    return out


def scores(rows: int, tokens: int) -> torch.Tensor:
    """Of few levels, so that there are ties, and half of them negative."""
    return (torch.randint(-8, 9, (rows, tokens), generator=torch.Generator().manual_seed(3)) / 8).to(PLACE)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("grid", GRIDS)
def test_the_first_of_the_best_of_every_cell_gets_the_bonus(grid: tuple[int, ...], size: int, backend: str) -> None:
    tokens = torch.Size(grid).numel()
    score = scores(2, tokens)
    age = torch.randint(0, 4, (2, tokens), generator=torch.Generator().manual_seed(4), dtype=torch.int32).to(PLACE) * 3
    found = spread_scores(score, age, grid, **SETTINGS | {"size": size}, backend=backend)
    wanted = by_loop(score.cpu(), age.cpu(), grid, 0, size, 0.6)
    torch.testing.assert_close(found.cpu().double(), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_tokens_before_and_behind_the_image_grow_old_and_belong_to_no_cell(backend: str) -> None:
    score, age = scores(3, 5 + 12 + 2), torch.full((3, 19), 2, dtype=torch.int32, device=PLACE)
    found = spread_scores(score, age, (3, 4), **SETTINGS, before=5, backend=backend)
    wanted = by_loop(score.cpu(), age.cpu(), (3, 4), 5, 2, 0.6)
    torch.testing.assert_close(found.cpu().double(), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_age_for_all_tokens_and_a_view_of_the_scores(backend: str) -> None:
    base = scores(4, 12)
    score = base[::2]
    found = spread_scores(score, 4, (3, 4), **SETTINGS, backend=backend)
    wanted = by_loop(score.cpu(), torch.full((2, 12), 4), (3, 4), 0, 2, 0.6)
    torch.testing.assert_close(found.cpu().double(), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_grid_that_does_not_hold_the_tokens_is_refused(backend: str) -> None:
    with pytest.raises(RuntimeError):
        spread_scores(scores(1, 10), 0, (3, 4), **SETTINGS, backend=backend)


def test_the_reference_is_what_tokens_have() -> None:
    score = scores(2, 4 + 12).float()
    age = torch.arange(16, dtype=torch.int32, device=PLACE).expand(2, -1)
    aged = add_staleness(score, age, weight=0.25, interval=3)
    image = cell_bonus(aged[:, 4:], (3, 4), size=2, bonus=0.6)
    found = spread_scores(score, age, (3, 4), **SETTINGS, before=4, backend="torch")
    assert torch.equal(found, torch.cat([aged[:, :4], image], dim=1))
