"""What stale tokens get: the feature as it was, or Newton's polynomial through the last full ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tocache.features import Feature, forecast_polynomial, forecast_reuse

SHAPE = (2, 3, 4)


def polynomial(degree: int, seed: int = 0):
    """f(t), a polynomial of this degree in each element, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    coefficients = [torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(degree + 1)]
    return lambda t: sum(c * (t / 10) ** n for n, c in enumerate(coefficients))


@settings(deadline=None, derandomize=True, database=None, max_examples=60)
@given(
    gaps=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    ahead=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_m_plus_one_features_are_exact_on_polynomials_of_degree_m_whatever_their_spacing(gaps, ahead, seed):
    at = [0]
    for gap in gaps[:-1]:
        at.append(at[-1] + gap)
    f = polynomial(len(at) - 1, seed)
    forecast = forecast_polynomial([Feature(f(t).float(), t) for t in at], at[-1] + ahead)
    expected = f(at[-1] + ahead).float()
    torch.testing.assert_close(forecast, expected, rtol=2e-3, atol=2e-3 * float(expected.abs().max()) + 2e-3)


def test_the_first_order_continues_the_line_through_the_last_two_over_uneven_steps():
    old, new = torch.randn(SHAPE), torch.randn(SHAPE)
    for at, now in (((0, 1), 2), ((0, 5), 6), ((3, 4), 9), ((2, 7), 8)):
        forecast = forecast_polynomial([Feature(old, at[0]), Feature(new, at[1])], now)
        torch.testing.assert_close(forecast, new + (new - old) / (at[1] - at[0]) * (now - at[1]))


def test_the_second_order_is_lagranges_parabola():
    values, at, now = [torch.randn(SHAPE) for _ in range(3)], (1, 4, 6), 9
    lagrange = torch.zeros(SHAPE)
    for i, value in enumerate(values):
        weight = 1.0
        for j in range(3):
            if j != i:
                weight *= (now - at[j]) / (at[i] - at[j])
        lagrange += weight * value
    history = [Feature(value, t) for value, t in zip(values, at, strict=True)]
    torch.testing.assert_close(forecast_polynomial(history, now), lagrange, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_single_feature_is_repeated_in_a_new_tensor_of_its_dtype(dtype):
    value = torch.randn(SHAPE).to(dtype)
    forecast = forecast_polynomial([Feature(value, 3)], 5)
    assert torch.equal(forecast, value)
    assert forecast.dtype == dtype
    assert forecast.data_ptr() != value.data_ptr()


def test_half_precision_is_forecast_in_float32():
    f = polynomial(1)
    values = [f(t).to(torch.bfloat16) for t in (0, 1)]
    exact = values[1].float() + (values[1].float() - values[0].float()) * 30
    forecast = forecast_polynomial([Feature(value, t) for t, value in enumerate(values)], 31)
    assert torch.equal(forecast, exact.to(torch.bfloat16))


def test_a_forecast_leaves_the_history_as_it_was():
    history = [Feature(torch.randn(SHAPE), t) for t in (0, 2, 3)]
    before = [feature.value.clone() for feature in history]
    forecast_polynomial(history, 7).zero_()
    assert all(torch.equal(feature.value, value) for feature, value in zip(history, before, strict=True))


def test_reuse_hands_out_the_newest_tensor_itself():
    history = [Feature(torch.randn(SHAPE), 0), Feature(torch.randn(SHAPE), 4)]
    assert forecast_reuse(history, 9) is history[1].value
