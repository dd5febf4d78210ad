"""Precision and recall against their definition, written down pair by pair."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tocache.errors import OptionError
from tocache.evaluation.sets import manifold
from tocache.evaluation.sets.manifold import manifold_radii, within


def draw(count: int, width: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * scale + shift


def radii_by_definition(features: Tensor, k: int) -> Tensor:
    """ADM: of the sorted squared distances to all, itself the first, number k."""
    distances = (features[:, None].double() - features[None].double()).square().sum(dim=2)
    return distances.sort(dim=1).values[:, k]


@pytest.mark.parametrize("block", [3, 16, 4096])
def test_radii_are_the_distance_to_the_third_nearest(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(manifold, "_BLOCK", block)
    features = draw(50, 4, 0)
    torch.testing.assert_close(
        manifold_radii(features).double(), radii_by_definition(features, 3), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("block", [7, 4096])
def test_a_feature_is_within_if_any_ball_holds_it(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(manifold, "_BLOCK", block)
    real, fake = draw(60, 3, 1), draw(80, 3, 2, scale=1.5)
    radii = manifold_radii(real)
    expected = [
        any(((one - other).double().square().sum() <= radius) for other, radius in zip(real, radii, strict=True))
        for one in fake
    ]
    assert within(fake, real, radii).tolist() == expected
    assert 0 < sum(expected) < 80


def test_far_sets_share_nothing_and_equal_sets_everything() -> None:
    one, far = draw(40, 5, 3), draw(40, 5, 4, shift=100.0)
    assert not within(far, one, manifold_radii(one)).any()
    assert within(one, one, manifold_radii(one)).all()


def test_a_large_common_offset_changes_nothing() -> None:
    """In float32 |u|² − 2uv + |v|² would lose distances of 1 beside norms of 1e8."""
    real, fake = draw(60, 3, 5), draw(60, 3, 6)
    expected = within(fake, real, manifold_radii(real))
    moved = within(fake + 1024, real + 1024, manifold_radii(real + 1024))
    assert (moved == expected).float().mean() >= 59 / 60
    torch.testing.assert_close(manifold_radii(real + 1024), manifold_radii(real), rtol=1e-3, atol=1e-3)


def test_a_mode_that_is_dropped_costs_recall_alone() -> None:
    both = torch.cat([draw(200, 2, 7), draw(200, 2, 8, shift=50.0)])
    one = draw(200, 2, 9)
    precision = within(one, both, manifold_radii(both)).float().mean()
    recall = within(both, one, manifold_radii(one)).float().mean()
    assert precision > 0.9
    assert 0.4 < recall <= 0.5


def test_too_few_pictures_have_no_manifold() -> None:
    with pytest.raises(OptionError, match="more than 3"):
        manifold_radii(draw(3, 2, 0))
