"""What stale tokens get: the feature as it was, or its forecast.

Every forecast here is a sum of the cached features, each with a weight that only the times decide: when the features
were computed, and what step it is. So a forecast is a function from times to weights, worked out on plain numbers,
and one pass over the features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import factorial

import numpy as np
import torch

Weights = tuple[float, ...]
Times = tuple[float, ...]


@dataclass(slots=True)
class Feature:
    """One cached feature and the step at which it was computed in full."""

    value: torch.Tensor  # (rows, tokens, width)
    step: int


@dataclass(frozen=True)
class Forecast:
    """How stale tokens are forecast from the last features.

    basis        "polynomial", "taylor", "hermite" or "chebyshev"
    order        degree of the forecast; fewer features than it needs lower it
    clock        the time of each step of the run, rising or falling throughout; the Chebyshev polynomials span it
    contraction  of the Hermite basis, 0 … 1
    ridge        weight of the Chebyshev fit's penalty
    low          share of the frequencies along the tokens, from the lowest, that are reused instead
    """

    basis: str
    order: int
    clock: tuple[float, ...]
    contraction: float = 0.5
    ridge: float = 0.1
    low: float = 0.0

    def weights(self, at: tuple[int, ...], step: int) -> Weights:
        """The weight at `step` of each feature computed at the steps `at`, oldest first."""
        return _weights(self, at, step)


@lru_cache(maxsize=4096)
def _weights(how: Forecast, at: tuple[int, ...], step: int) -> Weights:
    return _BASES[how.basis](how, tuple(how.clock[i] for i in at), how.clock[step])


def extrapolate(history: Sequence[Feature], step: int, how: Forecast | None) -> torch.Tensor:
    """The feature at `step`, (rows, tokens, width) in its dtype.

    Where `how` is None it is reused: the newest stored tensor itself, so that fresh rows can be written into it.
    Otherwise it is a new tensor, summed up in float32.
    """
    newest = history[-1].value
    if how is None:
        return newest
    weights = how.weights(tuple(feature.step for feature in history), step)
    total = newest.float() * weights[-1]
    for feature, weight in zip(history[:-1], weights[:-1], strict=True):
        if isinstance(weight, torch.Tensor):
            total = total + feature.value * weight
        elif weight:
            total.add_(feature.value, alpha=weight)
    if how.low and len(history) > 1:
        total -= low_band(total - newest.float(), how.low)
    return total.to(newest.dtype)


def extrapolate_each(
    history: Sequence[Feature], step: int, hows: Sequence[Forecast], choice: torch.Tensor
) -> torch.Tensor:
    """The feature at `step`, (rows, tokens, width) in its dtype, of each token by the forecast that is its own.

    `choice` (rows, tokens) are numbers of `hows`.
    """
    value = extrapolate(history, step, hows[0])
    for number, how in enumerate(hows[1:], start=1):
        value = torch.where((choice == number).unsqueeze(-1), extrapolate(history, step, how), value)
    return value


def best_forecasts(
    history: Sequence[Feature], step: int, hows: Sequence[Forecast], actual: torch.Tensor
) -> torch.Tensor:
    """Which of `hows` comes nearest to `actual` (rows, tokens, width), token by token: (rows, tokens) uint8.

    TAP's proxy loss (Zhu et al., arXiv 2603.03792). Among equals the first is taken.
    """
    errors = [(extrapolate(history, step, how).float() - actual.float()).square().sum(dim=-1) for how in hows]
    least, best = errors[0], torch.zeros_like(errors[0], dtype=torch.uint8)
    for number, error in enumerate(errors[1:], start=1):
        better = error < least
        best.masked_fill_(better, number)
        least = torch.minimum(error, least)
    return best


def low_band(x: torch.Tensor, share: float) -> torch.Tensor:
    """The lowest `share` of the frequencies of `x` (rows, tokens, width) float32 along its tokens, the mean included.

    FreqCa's split (Liu et al., arXiv 2510.08669, §3.2) as its code has it: tokens in the order of the sequence, not on
    the picture's grid, so that it holds of any.
    """
    spectrum = torch.fft.rfft(x, dim=1)  # (rows, tokens // 2 + 1, width) complex
    spectrum[:, int(share * (x.shape[1] // 2)) + 1 :] = 0
    band: torch.Tensor = torch.fft.irfft(spectrum, n=x.shape[1], dim=1)
    return band


def newton_weights(how: Forecast, at: Times, now: float) -> Weights:
    """Newton's polynomial through the last order + 1 features.

    Exact on polynomials of that degree, whatever the spacing of the full steps.
    """
    used = np.asarray(at[-(how.order + 1) :], dtype=np.float64)
    others = [np.delete(used, i) for i in range(len(used))]
    lagrange = [float(np.prod((now - o) / (used[i] - o))) for i, o in enumerate(others)]
    return _padded(lagrange, len(at))


def taylor_weights(how: Forecast, at: Times, now: float) -> Weights:
    """TaylorSeer's forecast (Liu et al., arXiv 2503.06923): finite differences read as derivatives.

    Of first order it is the line through the last two features. From the second order on the differences, which are
    those around a moment that lies before the newest feature, make it inexact on parabolas.
    """
    return _taylor(how, at, now, lambda n, x: x**n)


def hermite_weights(how: Forecast, at: Times, now: float) -> Weights:
    """HiCache's forecast (Feng et al., arXiv 2508.16984): TaylorSeer's with scaled Hermite polynomials.

    In place of xⁿ stands σⁿ Hₙ(σx), of the physicists' polynomials and a contraction σ, which damps long forecasts.
    """
    sigma = how.contraction
    return _taylor(how, at, now, lambda n, x: sigma**n * _hermite(n, sigma * x))


def chebyshev_weights(how: Forecast, at: Times, now: float) -> Weights:
    """Spectrum's forecast (Han et al., arXiv 2603.01623): Chebyshev polynomials fitted to all kept features, by ridge.

    The polynomials span the whole run, so that a forecast ahead of the features is still within their interval. Of
    order 0, and through one feature, the newest is reused: the penalty would shrink it.
    """
    order = min(how.order, len(at) - 1)
    if not order:
        return _padded([1.0], len(at))
    begin, end = how.clock[0], how.clock[-1]
    places = (2 * np.asarray([*at, now]) - begin - end) / ((end - begin) or 1.0)  # -1 … 1
    basis = np.polynomial.chebyshev.chebvander(places, order)
    design, target = basis[:-1], basis[-1]
    fit = np.linalg.solve(design.T @ design + how.ridge * np.eye(order + 1), design.T)
    return tuple(float(weight) for weight in target @ fit)


_BASES: dict[str, Callable[[Forecast, Times, float], Weights]] = {
    "polynomial": newton_weights,
    "taylor": taylor_weights,
    "hermite": hermite_weights,
    "chebyshev": chebyshev_weights,
}


def _taylor(how: Forecast, at: Times, now: float, power: Callable[[int, float], float]) -> Weights:
    """Σ Dₙ · power(n, x) / n!, x after the time of the newest feature.

    Dₙ is the difference of the Dₙ₋₁ at the last two features, divided by their distance, all of it linear in the
    features: here each is a row of weights.
    """
    used = at[-(how.order + 1) :]
    count = len(used)
    rows = list(np.eye(count))  # D₀ at each feature, oldest first
    total = rows[-1].copy()
    for n in range(1, count):
        rows = [(rows[i + 1] - rows[i]) / (used[i + n] - used[i + n - 1]) for i in range(len(rows) - 1)]
        total += rows[-1] * power(n, now - used[-1]) / factorial(n)
    return _padded(total, len(at))


def _hermite(n: int, x: float) -> float:
    return float(np.polynomial.hermite.hermval(x, [0.0] * n + [1.0]))


def _padded(weights: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]], count: int) -> Weights:
    """`weights` of the newest features, with 0 for the older ones."""
    return (0.0,) * (count - len(weights)) + tuple(float(weight) for weight in weights)
