from __future__ import annotations

import pytest
import torch

from tocache.errors import OptionError
from tocache.evaluation.sets.moments import Moments


@pytest.mark.parametrize("sizes", [[1, 1], [7, 600, 3], [512, 512, 1], [2000]])
def test_blocks_of_any_size_give_the_moments_of_the_whole(sizes: list[int]) -> None:
    rows = torch.randn(sum(sizes), 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 3
    moments = Moments(5)
    for block in rows.split(sizes):
        moments.add(block)
    assert moments.count == len(rows)
    torch.testing.assert_close(moments.mean, rows.mean(dim=0), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(moments.covariance, torch.cov(rows.T), rtol=1e-12, atol=1e-12)


def test_a_large_mean_costs_no_digits() -> None:
    """Sums of squares would leave nothing of a deviation of 1e-3 beside 1e6: 1e12 has no room for 1e-6."""
    rows = torch.randn(4000, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 1e-3
    moments = Moments(3)
    for block in (rows + 1e6).split(100):
        moments.add(block)
    torch.testing.assert_close(moments.covariance, torch.cov(rows.T), rtol=1e-5, atol=1e-11)
    naive = (rows + 1e6).T @ (rows + 1e6) / 4000 - torch.outer((rows + 1e6).mean(0), (rows + 1e6).mean(0))
    assert (naive - torch.cov(rows.T)).abs().max() > 100 * (moments.covariance - torch.cov(rows.T)).abs().max()


def test_half_precision_rows_are_summed_in_float64() -> None:
    rows = torch.rand(3000, 2, generator=torch.Generator().manual_seed(2)).half()
    moments = Moments(2)
    for block in rows.split(64):
        moments.add(block)
    torch.testing.assert_close(moments.mean, rows.double().mean(dim=0), rtol=1e-13, atol=0)


@pytest.mark.parametrize("rows", [torch.zeros(2, 4), torch.zeros(3), torch.full((2, 3), torch.nan)])
def test_rows_of_another_kind_are_refused_and_change_nothing(rows: torch.Tensor) -> None:
    moments = Moments(3)
    moments.add(torch.eye(3))
    with pytest.raises(OptionError):
        moments.add(rows)
    assert moments.count == 3


def test_one_row_has_no_covariance() -> None:
    moments = Moments(1)
    moments.add(torch.ones(1, 1))
    with pytest.raises(OptionError, match="at least 2"):
        _ = moments.covariance


def test_rows_may_be_overwritten_once_they_were_added() -> None:
    rows = torch.arange(12.0).reshape(4, 3)
    expected = torch.cov(rows.double().T)
    moments = Moments(3)
    moments.add(rows)
    rows.zero_()
    torch.testing.assert_close(moments.covariance, expected)
