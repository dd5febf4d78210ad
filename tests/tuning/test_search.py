"""What the search keeps where the first pictures and all of them say different things."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from tocache.methods import Placed
from tocache.planning import plan_model
from tocache.tuning.between import betweens
from tocache.tuning.search import Candidate, Search

STEPS = 10


@dataclass
class Draws:
    """Of two batches the first dislikes plain reuse, and the second all others much more."""

    batches: tuple[int, int] = (0, 1)
    asked: list[Placed] = field(default_factory=list)

    def loss(self, method: Placed, batches: int | None = None) -> float:
        self.asked.append(method)
        plain = method.stale == "reuse" and method.where is None and not method.partial
        first, second = (0.010, 0.001) if plain else (0.001, 0.050)
        harm = 0.0001 * (STEPS - len(method.full))
        return harm + (first if batches == 1 else (first + second) / 2)


class FullSteps:
    """A price: a full step costs one, everything else nothing."""

    uncached = float(STEPS)

    def cost(self, method: Placed) -> float:
        return float(len(method.full))


@pytest.fixture
def search() -> Search:
    anatomies = plan_model("pixart-xl-2-256", "balanced", steps=STEPS).anatomies
    draws: Any = Draws()
    price: Any = FullSteps()
    gram = np.minimum.outer(np.arange(1.0, STEPS + 1), np.arange(1.0, STEPS + 1))  # of a random walk
    ways = betweens([anatomies[0]])
    return Search(draws, price, anatomies, ways, gram, np.ones(STEPS), lambda candidate, loss: None)


def test_a_variant_takes_the_place_of_the_best_only_where_it_loses_less_over_all(search: Search) -> None:
    search = replace(search, betweens=search.betweens[:1])  # so that all other ways are variants
    reuse = search.starts(search.betweens[0], 5.0)[0]
    found = search.varied(reuse, 5.0)
    assert search.loss(found) <= search.loss(reuse)


def test_the_fastest_holds_the_loss_that_was_asked_for(search: Search) -> None:
    most = 0.0062
    found = search.fastest(most, trials=2)
    assert isinstance(found, Candidate)
    assert search.loss(found) <= most
