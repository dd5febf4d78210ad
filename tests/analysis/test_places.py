"""Where studies look: evenly, and never more than was allowed."""

from __future__ import annotations

import numpy as np
import pytest

from tocache.analysis.places import lattice, sites_of, spaced
from tocache.errors import OptionError
from tocache.planning import plan_model


def test_numbers_are_evenly_spaced_and_off_the_ends():
    assert spaced(20, 3) == [3, 10, 16]
    assert spaced(12, 4) == [1, 4, 7, 10]
    assert spaced(3, 5) == [0, 1, 2]
    assert spaced(100, 1) == [50]


@pytest.mark.parametrize(("grid", "most", "shape"), [((16, 16), 36, (6, 6)), ((8, 8), 1000, (8, 8))])
def test_a_lattice_covers_the_grid(grid, most, shape):
    found = lattice(grid[0] * grid[1], grid, most)
    assert found.shape == shape
    rows, columns = np.unravel_index(found.index, grid)
    assert sorted(set(rows.tolist())) == spaced(grid[0], shape[0])
    assert sorted(set(columns.tolist())) == spaced(grid[1], shape[1])


@pytest.mark.parametrize("grid", [(16, 16), (30, 53), (4, 6, 9), (5, 16, 16), None])
@pytest.mark.parametrize("most", [1, 7, 36, 64])
def test_no_more_tokens_than_allowed_and_each_once(grid, most):
    tokens = 1590 if grid is None else int(np.prod(grid))
    found = lattice(tokens, grid, most)
    assert len(set(found.index.tolist())) == len(found.index) == np.prod(found.shape) <= most
    assert 0 <= found.index.min() <= found.index.max() < tokens
    assert len(found.index) > most / 2


class TestSites:
    def test_mlps_and_the_blocks_that_have_one_inside_are_usual(self):
        flux = plan_model("flux-dev-1024").anatomies[0]
        sites = [flux.sites[i] for i in sites_of(flux)]
        assert {site.kind for site in sites} == {"mlp", "parallel"}
        assert {site.group for site in sites} == {"image", "joint"}
        assert len(sites) == 19 + 38

    def test_a_kind_that_the_model_lacks_is_refused_with_those_it_has(self):
        dit = plan_model("dit-xl-2-256").anatomies[0]
        with pytest.raises(OptionError, match=r"'cross-attention' is not allowed.*mlp, self-attention"):
            sites_of(dit, ["cross-attention"])
