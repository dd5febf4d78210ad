"""What stale tokens get: the feature as it was, or its forecast in one of four bases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tocache.features import Feature, Forecast, best_forecasts, extrapolate, extrapolate_each
from tocache.features.forecast import low_band

SHAPE = (2, 3, 4)
STEPS = tuple(map(float, range(64)))
BASES = ("polynomial", "taylor", "hermite", "chebyshev")


def forecast_polynomial(history, step):
    return extrapolate(history, step, Forecast("polynomial", len(history) - 1, STEPS))


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
    assert extrapolate(history, 9, None) is history[1].value


def published_taylor(values, at, step, order, power):
    """TaylorSeer as its code runs: each full step divides what the factors changed by the distance to the last one."""
    factors = []
    for n, value in enumerate(values):
        new = [value]
        for i in range(min(order, len(factors))):
            new.append((new[i] - factors[i]) / (at[n] - at[n - 1]))
        factors = new
    return sum(factor * power(n, step - at[-1]) / math.factorial(n) for n, factor in enumerate(factors))


@pytest.mark.parametrize("at", [(0, 1, 2, 5, 8), (0, 3, 6, 9, 12), (0, 1, 5, 6, 11)])
@pytest.mark.parametrize("order", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("sigma", [None, 0.5, 0.9])
def test_taylor_and_hermite_are_what_the_published_recursion_gives(at, order, sigma):
    generator = torch.Generator().manual_seed(order)
    values = [torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in at]
    how = Forecast("taylor", order, STEPS) if sigma is None else Forecast("hermite", order, STEPS, contraction=sigma)

    def power(n, x):
        if sigma is None:
            return x**n
        y = sigma * x
        return sigma**n * (1, 2 * y, 4 * y**2 - 2, 8 * y**3 - 12 * y, 16 * y**4 - 48 * y**2 + 12)[n]

    # the recursion remembers all features, and what is older than the order has left it
    newest = order + 1
    kept = [Feature(value.float(), t) for value, t in zip(values[-newest:], at[-newest:], strict=True)]
    for step in (at[-1] + 1, at[-1] + 4):
        expected = published_taylor(values, at, step, order, power).float()
        torch.testing.assert_close(extrapolate(kept, step, how), expected, rtol=1e-4, atol=1e-4)


def test_taylor_of_second_order_is_not_exact_on_a_parabola_and_newton_is():
    f = polynomial(2)
    history = [Feature(f(t).float(), t) for t in (0, 3, 6)]
    exact = f(8).float()
    torch.testing.assert_close(extrapolate(history, 8, Forecast("polynomial", 2, STEPS)), exact, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(extrapolate(history, 8, Forecast("taylor", 2, STEPS)), exact, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_chebyshev_is_exact_on_polynomials_as_its_ridge_vanishes(degree):
    f, at = polynomial(degree), (0, 1, 2, 5, 8, 11)
    history = [Feature(f(t).float(), t) for t in at]
    how = Forecast("chebyshev", 3, STEPS[:21], ridge=1e-12)
    torch.testing.assert_close(extrapolate(history, 13, how), f(13).float(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("order", "count"), [(0, 1), (0, 3), (4, 1)])
def test_chebyshev_of_order_0_or_through_one_feature_is_reuse(order, count):
    how = Forecast("chebyshev", order, STEPS[:21])
    assert how.weights(tuple(range(count)), 5) == (*(0.0,) * (count - 1), 1.0)


def test_chebyshev_through_few_features_is_of_a_lower_order():
    few = Forecast("chebyshev", 4, STEPS[:21]).weights((0, 1), 4)
    assert few == Forecast("chebyshev", 1, STEPS[:21]).weights((0, 1), 4)


def test_chebyshev_is_the_ridge_regression():
    at, steps, step, ridge = (0, 1, 4, 7, 9), 12, 11, 0.1
    generator = torch.Generator().manual_seed(3)
    values = [torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in at]
    design = np.polynomial.chebyshev.chebvander(np.array(at) / 6 - 1, 2)
    rows = np.vstack([design, math.sqrt(ridge) * np.eye(3)])
    targets = np.vstack([torch.stack(values).flatten(1).numpy(), np.zeros((3, values[0].numel()))])
    fit, *_ = np.linalg.lstsq(rows, targets, rcond=None)
    expected = np.polynomial.chebyshev.chebvander(np.array([step / 6 - 1]), 2) @ fit
    history = [Feature(value.float(), t) for value, t in zip(values, at, strict=True)]
    forecast = extrapolate(history, step, Forecast("chebyshev", 2, STEPS[: steps + 1], ridge=ridge))
    torch.testing.assert_close(forecast.flatten(), torch.from_numpy(expected[0]).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_a_feature_that_does_not_change_is_forecast_as_it_is(basis, order):
    value = torch.randn(SHAPE)
    history = [Feature(value, t) for t in (0, 1, 2, 5)]
    how = Forecast(basis, order, STEPS[:11], ridge=1e-9)
    torch.testing.assert_close(extrapolate(history, 7, how), value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("basis", BASES[:3])
def test_more_features_than_the_order_needs_change_nothing(basis):
    history = [Feature(torch.randn(SHAPE), t) for t in (0, 2, 5, 6)]
    how = Forecast(basis, 1, STEPS)
    assert torch.equal(extrapolate(history, 8, how), extrapolate(history[-2:], 8, how))


@pytest.mark.parametrize("basis", BASES)
def test_a_clock_makes_the_forecast_exact_in_time(basis):
    """A line in time over steps that are nowhere equally long, forwards and backwards."""
    for clock in ((0.0, 1.0, 1.5, 4.0, 4.2, 9.0), (999.0, 980.0, 700.0, 690.0, 100.0, 3.0)):
        line = torch.randn(SHAPE), torch.randn(SHAPE)
        history = [Feature(line[0] + clock[t] * line[1] / 10, t) for t in (0, 1, 3)]
        expected = line[0] + clock[4] * line[1] / 10
        sigma = 0.5**0.5  # σ · H₁(σx) = x
        how = Forecast(basis, 1, clock, contraction=sigma, ridge=1e-12)
        torch.testing.assert_close(extrapolate(history, 4, how), expected, rtol=1e-3, atol=1e-2)
        if basis != "chebyshev":
            assert not torch.allclose(extrapolate(history, 4, Forecast(basis, 1, STEPS, sigma)), expected, atol=1e-2)


@pytest.mark.parametrize("tokens", [1, 2, 7, 16, 77])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_low_band_is_a_projection_onto_slow_waves(tokens, share):
    """Against the waves themselves: a least-squares fit of sines and cosines of all low frequencies."""
    x = torch.randn(2, tokens, 3, generator=torch.Generator().manual_seed(tokens), dtype=torch.float64)
    places = 2 * math.pi * torch.arange(tokens, dtype=torch.float64) / tokens
    numbers = [n for n in range(tokens // 2 + 1) if n <= share * (tokens // 2)]
    waves = torch.stack([wave(n * places) for n in numbers for wave in (torch.cos, torch.sin)], dim=1)
    expected = waves @ torch.linalg.pinv(waves) @ x  # (tokens, waves) (waves, tokens) (2, tokens, 3)
    torch.testing.assert_close(low_band(x, share), expected)


def test_low_frequencies_are_reused_and_high_ones_forecast():
    """FreqCa: each wave apart, one below the split and one above it."""
    tokens, places = 32, torch.arange(32) * 2 * math.pi / 32
    slow, fast = (torch.cos(n * places)[None, :, None] for n in (2, 9))
    history = [Feature(slow + fast, 0), Feature(2 * slow + 3 * fast, 1)]
    forecast = extrapolate(history, 3, Forecast("polynomial", 1, STEPS, low=0.25))  # up to 4 of 16
    torch.testing.assert_close(forecast, 2 * slow + 7 * fast)
    assert forecast.shape == (1, tokens, 1)


@pytest.mark.parametrize("basis", BASES)
def test_nothing_low_is_the_forecast_and_all_of_it_is_reuse(basis):
    history = [Feature(torch.randn(SHAPE), step) for step in (0, 2, 5)]
    plain = extrapolate(history, 7, Forecast(basis, 2, STEPS))
    torch.testing.assert_close(extrapolate(history, 7, Forecast(basis, 2, STEPS, low=0.0)), plain)
    torch.testing.assert_close(extrapolate(history, 7, Forecast(basis, 2, STEPS, low=1.0)), history[-1].value)


@pytest.mark.parametrize("low", [0.0, 0.5])
@pytest.mark.parametrize("basis", BASES)
def test_each_token_is_forecast_by_its_own(basis, low):
    history = [Feature(torch.randn(SHAPE), step) for step in (0, 2, 5)]
    hows = [Forecast(basis, order, STEPS, low=low) for order in range(3)]
    choice = torch.tensor([[0, 1, 2], [2, 0, 1]], dtype=torch.uint8)
    forecast = extrapolate_each(history, 7, hows, choice)
    for row, token in np.ndindex(2, 3):
        alone = extrapolate(history, 7, hows[choice[row, token]])
        torch.testing.assert_close(forecast[row, token], alone[row, token])


def test_the_best_forecast_is_the_nearest_token_by_token():
    """Tokens that stood still, moved along a line and along a parabola, at the steps 0, 1, 2 and 4."""
    moves = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-2.0, 0.5]])  # (tokens, slope and curvature)

    def at(step: int) -> torch.Tensor:
        return (moves[:, :1] * step + moves[:, 1:] * step**2).expand(-1, 4).unsqueeze(0)  # (1, tokens, width)

    hows = [Forecast("polynomial", order, STEPS) for order in range(3)]
    best = best_forecasts([Feature(at(step), step) for step in range(3)], 4, hows, at(4))
    assert best.dtype == torch.uint8
    assert best.tolist() == [[0, 1, 2]]  # what stood still is forecast by all alike: the first


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_choice_of_forecasts_keeps_the_dtype(dtype):
    history = [Feature(torch.randn(SHAPE).to(dtype), step) for step in (0, 2)]
    choice = torch.ones(SHAPE[:2], dtype=torch.uint8)
    hows = [Forecast("taylor", order, STEPS) for order in range(2)]
    forecast = extrapolate_each(history, 3, hows, choice)
    assert forecast.dtype == dtype
    torch.testing.assert_close(forecast, extrapolate(history, 3, hows[1]))
