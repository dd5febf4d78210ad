"""Random plans on random shapes, in every family: nothing crashes, no number is lost, and nothing is left behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tocache
from tocache.engine.engine import Engine
from tocache.engine.follow import Follower
from tocache.engine.pass_run import PassRun
from tocache.engine.run import Run
from tocache.features import PassCache
from tocache.plan import ALL
from tocache.plan.anatomy import PARALLEL
from tocache.session import Session

from ..conftest import Case

OURS = (Engine, Follower, Run, PassRun, PassCache, Session)
PIPES: dict[str, Any] = {}  # one of each family for the whole file: `disable` must leave it as it was


def pipe_of(case: Case) -> Any:
    if case.name not in PIPES:
        PIPES[case.name] = case.make()
    return PIPES[case.name]


@dataclass(frozen=True)
class AnyTable(tocache.Method):
    """Amounts and copied passes drawn from a seed, within the rules of a plan."""

    name: ClassVar[str] = "any"

    seed: int
    policy: tocache.Policy

    def plan(self, anatomies: Any, steps: int) -> tocache.Plan:
        dice = np.random.default_rng(self.seed)
        fresh = np.full((steps, len(anatomies), len(anatomies[0].sites)), ALL, dtype=np.int32)
        source = np.full((steps, len(anatomies)), -1, dtype=np.int8)
        for p, anatomy in enumerate(anatomies):
            for i, site in enumerate(anatomy.sites):
                some = dice.integers(0, anatomy.tokens(site) + 1, steps) if site.rows else np.zeros(steps, np.int64)
                if self.policy.together and p:  # such a pass takes the first of the tokens that the first pass chose
                    some = np.minimum(some, np.maximum(fresh[:, 0, i], 0))
                fresh[1:, p, i] = np.where(dice.random(steps) < 0.3, ALL, some)[1:]
                if site.kind == PARALLEL:
                    attends = fresh[:, p, anatomy.index[site.inside[0]]] == ALL
                    fresh[attends, p, i] = ALL
            if p:
                source[1:, p] = np.where(dice.random(steps) < 0.2, p - 1, -1)[1:]
        return tocache.Plan(tuple(anatomies), fresh, self.policy, "any", source=source)


SCORES = (None, {"norm": 1.0}, {"random": 1.0, "similarity": 0.5}, {"drift": 1.0})  # None: those of the family's recipe
POLICIES = st.fixed_dictionaries(
    {
        "scores": st.sampled_from(SCORES),
        "staleness": st.sampled_from([0.0, 0.25]),
        "spread": st.sampled_from([0.0, 0.4]),
        "share": st.sampled_from(["sublayer", "block", "step"]),
        "together": st.booleans(),
        "stale": st.sampled_from(["reuse", "taylor"]),
        "order": st.integers(0, 2),
        "storage": st.sampled_from(["same", "int8"]),
        "offload": st.booleans(),
    }
)


def check(
    case: Case, seed: int, policy: dict[str, Any], steps: int, pictures: int, resized: bool, guided: bool
) -> None:
    pipe = pipe_of(case)
    method = AnyTable(seed, tocache.Policy(**policy | {"scores": policy["scores"] or case.scores}))
    options = (case.resized if resized and case.name != "dit" else {}) | ({} if guided else case.unguided)

    def draw() -> torch.Tensor:
        return case.draw(pipe, seeds=tuple(range(pictures)), num_inference_steps=steps, **options)

    plain = draw()
    tocache.enable(pipe, method)
    try:
        assert draw().isfinite().all() or not plain.isfinite().all()
        report = tocache.report(pipe)
        assert report.steps == steps
        if not hasattr(pipe, "transformer_2"):  # of two, the second may drop what was kept for steps that it serves
            assert report.cache_bytes_peak <= report.cache_bytes_planned
        assert held() == []
    finally:
        tocache.disable(pipe)
    assert torch.equal(draw(), plain)


def held() -> list[Any]:
    """Caches that hold something."""
    return [thing for thing in gc.get_objects() if type(thing) is PassCache and thing.held]


CASES = given(
    seed=st.integers(0, 2**16),
    policy=POLICIES,
    steps=st.integers(2, 7),
    pictures=st.integers(1, 3),
    resized=st.booleans(),
    guided=st.booleans(),
)
USUAL = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


@pytest.fixture(autouse=True)
def few_objects() -> Iterator[None]:
    """The collector forgets what was there before, so that only what a test makes has to be looked through."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.filterwarnings("ignore::tocache.TocacheWarning")
class TestAnyPlan:
    @settings(max_examples=4, **USUAL)
    @CASES
    def test_draws_numbers_and_leaves_nothing_behind(self, case: Case, **drawn: Any) -> None:
        check(case, **drawn)

    @pytest.mark.slow
    @settings(max_examples=40, **USUAL)
    @CASES
    def test_draws_numbers_in_many_more_examples(self, case: Case, **drawn: Any) -> None:
        check(case, **drawn)


def test_objects_and_bytes_are_as_many_as_before_after_disable(case: Case) -> None:
    """Counted over all of the engine's objects and all tensors that Python knows of."""
    pipe = pipe_of(case)

    def once() -> None:
        tocache.enable(pipe, tocache.ToCa(2, 0.5))
        case.draw(pipe, num_inference_steps=9)
        tocache.disable(pipe)

    def count() -> tuple[int, int]:
        gc.collect()
        things = [(thing, type(thing)) for thing in gc.get_objects()]  # not isinstance, which asks lazy things to load
        ours = sum(cls in OURS for _, cls in things)
        return ours, sum(thing.nbytes for thing, cls in things if cls in (torch.Tensor, torch.nn.Parameter))

    once()
    before = count()
    once()
    once()
    assert count() == before
