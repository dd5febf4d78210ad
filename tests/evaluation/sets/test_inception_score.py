from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tocache.errors import OptionError
from tocache.evaluation.sets.inception_score import InceptionScore


def draw(count: int, classes: int = 6, seed: int = 0) -> Tensor:
    return 2 * torch.randn(count, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_definition(logits: Tensor, split: int) -> float:
    scores = []
    for part in logits.split(split):
        p = part.softmax(dim=1)
        scores.append((p * (p.log() - p.mean(dim=0).log())).sum(dim=1).mean().exp())
    return float(torch.stack(scores).mean())


@pytest.mark.parametrize("batch", [1, 7, 50, 130])
@pytest.mark.parametrize("split", [50, 1000])
def test_equals_the_definition_over_splits_in_order(batch: int, split: int) -> None:
    logits = draw(130)
    score = InceptionScore(6, split=split)
    for part in logits.split(batch):
        score.add(part)
    assert score.count == 130
    assert score.value() == pytest.approx(by_definition(logits, split), rel=1e-12)


def test_sure_and_evenly_spread_pictures_score_the_number_of_classes() -> None:
    score = InceptionScore(10)
    score.add(torch.eye(10).repeat(30, 1) * 200)
    assert score.value() == pytest.approx(10, rel=1e-9)


def test_equal_pictures_score_one() -> None:
    score = InceptionScore(10)
    score.add(draw(1, 10).repeat(40, 1))
    assert score.value() == pytest.approx(1, rel=1e-12)
    assert score.influence().abs().max() < 1e-2  # the classes of single pictures are kept in half precision


@pytest.mark.parametrize("split", [40, 100])
def test_influence_is_the_derivative_by_a_pictures_weight(split: int) -> None:
    """A picture that counts (1 + ε) times moves the score by ε · influence ÷ N."""
    logits = draw(100)
    score = InceptionScore(6, split=split)
    score.add(logits)
    influence = score.influence()
    step = 1e-4

    def weighted(heavy: int) -> float:
        scores = []
        for first in range(0, 100, split):
            part = logits[first : first + split]
            weights = torch.ones(len(part), 1, dtype=torch.float64)
            if first <= heavy < first + split:
                weights[heavy - first] += step
            weights /= weights.sum()
            p = part.softmax(dim=1)
            q = (weights * p).sum(dim=0)
            scores.append((weights * p * (p.log() - q.log())).sum().exp())
        return float(torch.stack(scores).mean())

    for heavy in (0, 39, 41, 99):
        derivative = (weighted(heavy) - score.value()) / step * 100
        assert float(influence[heavy]) == pytest.approx(derivative, abs=2e-2)


def test_what_is_no_score_is_refused() -> None:
    with pytest.raises(OptionError, match="no pictures"):
        InceptionScore(3).value()
    with pytest.raises(OptionError, match=r"\(pictures, 3\)"):
        InceptionScore(3).add(torch.zeros(2, 4))
    with pytest.raises(OptionError, match="classes"):
        InceptionScore(1)
