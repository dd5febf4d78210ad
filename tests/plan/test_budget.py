"""How many tokens a partial step computes: the published ratios, word for word."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocache.models.dit import DDIM50, DDPM250
from tocache.models.flux import FLUX
from tocache.models.pixart import PIXART
from tocache.plan import Budget, Site


def site(kind: str, block: int, depth: int = 28, stack: str = "blocks", *, rows: bool = True) -> Site:
    return Site("x", kind, "image", stack, block, depth, 8, rows=rows)


def truncated(ratio: float, count: int) -> int:
    """method.md §0: k = int(f32(clamp(f32(ratio), 0, 1)) · N)."""
    return int(np.float32(min(max(np.float32(ratio), np.float32(0)), np.float32(1))) * np.float32(count))


TOKENS = st.sampled_from([64, 96, 256, 1024, 4096, 4608])


class TestPublishedRatios:
    @given(step=st.integers(0, 49), block=st.integers(0, 27), count=TOKENS)
    def test_dit_ddim50(self, step, block, count):
        s = 49 - step
        ratio = 0.07 * (0.8 + 0.4 * block / 27) * (1 + 2.0 - 4.0 * s / 50) * 2.5
        assert DDIM50.budget.tokens(step, 50, site("mlp", block), count) == truncated(ratio, count)
        assert s < 38 or truncated(ratio, count) == 0  # nothing in the first quarter

    @given(step=st.integers(0, 249), block=st.integers(0, 27), count=TOKENS)
    def test_dit_ddpm250(self, step, block, count):
        s = 249 - step
        ratio = 0.07 * (1.8 - 1.6 * block / 27) * (1.4 - 0.8 * s / 250) * 2.5
        assert DDPM250.budget.tokens(step, 250, site("mlp", block), count) == truncated(ratio, count)

    @pytest.mark.parametrize(("kind", "factor"), [("cross-attention", 0.6), ("mlp", 1.6)])
    @given(step=st.integers(0, 19), block=st.integers(0, 27), count=TOKENS)
    def test_pixart(self, kind, factor, step, block, count):
        ratio = 0.3 * (1.6 - 1.2 * block / 27) * (1.9 - 1.8 * step / 20) * factor
        assert PIXART.budget.tokens(step, 20, site(kind, block), count) == truncated(ratio, count)

    @pytest.mark.parametrize(("kind", "factor", "depth"), [("mlp", 0.4, 19), ("parallel", 1.6, 38)])
    @given(step=st.integers(0, 49), block=st.integers(0, 37), count=TOKENS)
    def test_flux_divides_by_27_in_both_stacks(self, kind, factor, depth, step, block, count):
        ratio = 0.1 * (1.5 - block / 27) * factor
        assert FLUX.budget.tokens(step, 50, site(kind, block, depth), count) == truncated(ratio, count)

    def test_pixart_computes_every_token_of_its_first_mlps(self):
        assert PIXART.budget.tokens(1, 20, site("mlp", 0), 256) == 256

    @pytest.mark.parametrize("recipe", [DDIM50, DDPM250, PIXART, FLUX], ids=lambda r: r.name)
    def test_self_attention_is_never_partial(self, recipe):
        assert recipe.budget.tokens(10, 20, site("self-attention", 3), 256) == 0


class TestBudget:
    def test_a_generic_model_divides_by_its_own_last_block(self):
        budget = Budget(0.5, {"mlp": 1.0}, depth=1.0)
        assert [budget.tokens(0, 10, site("mlp", b, depth=3), 100) for b in range(3)] == [100, 50, 0]

    def test_a_single_block_divides_by_nothing(self):
        assert Budget(0.5, {"mlp": 1.0}, depth=1.0).tokens(0, 10, site("mlp", 0, depth=1), 100) == 100

    def test_a_site_that_cannot_compute_rows_computes_none(self):
        assert Budget(1.0, {"mlp": 1.0}).tokens(1, 10, site("mlp", 0, rows=False), 100) == 0

    @given(ratio=st.floats(0, 1), count=st.integers(1, 5000), step=st.integers(0, 19), block=st.integers(0, 27))
    def test_amounts_stay_within_the_tokens_and_constant_ones_do_not_change(self, ratio, count, step, block):
        weighted = Budget(ratio, {"mlp": 2.5, "parallel": 0.0}, time=0.9, depth=0.6)
        assert 0 <= weighted.tokens(step, 20, site("mlp", block), count) <= count
        constant = weighted.constant()
        assert constant.tokens(step, 20, site("mlp", block), count) == truncated(ratio, count)
        assert constant.tokens(step, 20, site("parallel", block), count) == 0
