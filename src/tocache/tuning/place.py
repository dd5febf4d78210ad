"""Where full steps should stand: the cheapest path through the steps, by what serving was seen to cost.

The model is first-order and additive. Let m_s be what the model gives in step s of an uncached run, and w_s how much
the final picture suffers from a squared error in step s. Between the full steps a and b, step s is served
f_s = Σ weight · m of the full steps up to a: m_a where features are reused, a line through m_p and m_a where the full
step before a was p and the forecast is of first order. The errors of a stretch point the same way and so add up before
they are squared:

    cost(p, a, b) = ‖ Σ_{a < s < b} √w_s (m_s − f_s) ‖²

which needs no features, only their inner products over the steps (`gram`). Costs of different stretches are taken to
be independent; the full steps of least total cost are a shortest path over pairs of neighbouring full steps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tocache.features.forecast import Forecast
from tocache.plan import Policy

Floats = NDArray[np.float64]


def serving_costs(gram: Floats, weights: Floats, policy: Policy | None = None, *, coherent: bool = True) -> Floats:
    """(steps, steps, steps + 1) cost(p, a, b) of serving the steps from a to b, or to the end where b is `steps`.

    gram      (steps, steps) inner products of what the model gives in each step
    weights   (steps,) how much a squared error in each step costs in the end
    policy    what is served; None: reuse. A forecast of higher order is costed as if it had two features only
    coherent  whether the errors of a stretch add up before they are squared; otherwise their squares add up

    Where a = 0, p = 0 stands for no full step before. Infinite where b ≤ a or p ≥ a > 0.
    """
    steps = len(gram)
    costs = np.full((steps, steps, steps + 1), np.inf)
    how = None if policy is None or policy.stale == "reuse" else _forecast(policy, steps)
    for a in range(steps):
        alone = _stretch((a,), gram, weights, how, coherent)
        for p in range(max(1, a)):
            reused = a == 0 or how is None
            costs[p, a, a + 1 :] = alone if reused else _stretch((p, a), gram, weights, how, coherent)
    return costs


def served_error(gram: Floats, full: int, step: int) -> float:
    """The squared error of reusing the features of the step `full` in `step`: ‖m_step − m_full‖²."""
    return float(gram[step, step] + gram[full, full] - 2 * gram[step, full])


def place(costs: Floats, count: int) -> tuple[tuple[int, ...], float]:
    """The `count` full steps of least total cost, step 0 among them, and that cost.

    `costs` is (steps, steps, steps + 1), as `serving_costs` makes it; `count` is 1 … steps.
    """
    steps = len(costs)
    # [p, a]: cost from a on, where p is the full step before a and so many full steps are left after a
    best = [costs[:, :, steps]]
    following: list[NDArray[np.intp]] = []
    for _ in range(count - 1):
        sums = costs[:, :, :steps] + best[-1][None]  # (p, a, b)
        following.append(np.argmin(sums, axis=2))
        best.append(np.min(sums, axis=2))
    before, at = 0, 0
    path = [0]
    for choice in reversed(following):
        before, at = at, int(choice[before, at])
        path.append(at)
    return tuple(path), float(best[-1][0, 0])


def place_tokens(gram: Floats, weights: Floats, full: tuple[int, ...], count: int) -> tuple[int, ...]:
    """The `count` steps between `full` ones in which fresh tokens help most, in ascending order.

    Where fresh tokens take the same share of every step's squared error away, and each such step costs the same time,
    these are the steps of the largest weighted error: no other choice of as many is better.
    """
    last = dict.fromkeys(range(len(gram)), 0)
    for step in full:
        last.update(dict.fromkeys(range(step, len(gram)), step))
    between = [step for step in range(len(gram)) if step not in full]
    by_error = sorted(between, key=lambda step: (-weights[step] * served_error(gram, last[step], step), step))
    return tuple(sorted(by_error[:count]))


def spread_weights(measured: dict[int, float], steps: int) -> Floats:
    """(steps,) weights from those that were measured in some steps: geometric means between, the nearest outside."""
    known = sorted(measured)
    logs = np.log([max(measured[step], 1e-300) for step in known])
    weights: Floats = np.exp(np.interp(np.arange(steps), known, logs))
    return weights


def _forecast(policy: Policy, steps: int) -> Forecast:
    clock = tuple(float(step) for step in range(steps))
    return Forecast(policy.stale, policy.order, clock, contraction=policy.contraction, ridge=policy.ridge)


def _stretch(at: tuple[int, ...], gram: Floats, weights: Floats, how: Forecast | None, coherent: bool) -> Floats:
    """(steps − a,) cost of serving from a, the last of `at`, up to the full step a + 1, a + 2, … and to the end."""
    steps, a = len(gram), at[-1]
    errors = np.zeros((steps - a, steps))  # √w_s (m_s − f_s) as coefficients of m, in the rows s = a, a + 1, …
    for row, s in enumerate(range(a + 1, steps), start=1):
        errors[row, s] = 1.0
        shares = (1.0,) if how is None or len(at) == 1 else how.weights(at, s)
        for full, share in zip(at, shares, strict=True):
            errors[row, full] -= share
        errors[row] *= np.sqrt(weights[s])
    if coherent:
        errors = errors.cumsum(axis=0)
    squares: Floats = ((errors @ gram) * errors).sum(axis=1)
    costs: Floats = np.maximum(0.0, squares if coherent else squares.cumsum())
    return costs
