"""Where full steps should stand: the cheapest path through the steps, by what reuse was seen to cost.

The model is first-order and additive. Let m_s be what the model gives in step s of an uncached run, and w_s how much
the final picture suffers from a squared error in step s. Reusing step a in the steps s up to the next full step b
makes the errors m_s − m_a, which point the same way and so add up before they are squared:

    cost(a, b) = ‖ Σ_{a < s < b} √w_s (m_s − m_a) ‖²

which needs no features, only their inner products over the steps (`gram`). Costs of different stretches are taken to
be independent; the full steps of least total cost are a shortest path.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def reuse_costs(gram: Floats, weights: Floats, *, coherent: bool = True) -> Floats:
    """(steps, steps + 1) cost(a, b) of reusing step a up to the full step b, or to the end where b is `steps`.

    gram      (steps, steps) inner products of what the model gives in each step
    weights   (steps,) how much a squared error in each step costs in the end
    coherent  whether the errors of a stretch add up before they are squared; otherwise their squares add up
    """
    steps = len(gram)
    root = np.sqrt(weights)
    costs = np.full((steps, steps + 1), np.inf)
    for a in range(steps):
        total = np.zeros(steps)  # Σ √w_s (m_s − m_a) as coefficients of m
        summed = 0.0
        costs[a, a + 1] = 0.0
        for s in range(a + 1, steps):
            error = np.zeros(steps)
            error[s] += root[s]
            error[a] -= root[s]
            total += error
            summed += float(error @ gram @ error)
            costs[a, s + 1] = max(0.0, float(total @ gram @ total)) if coherent else summed
    return costs


def place(costs: Floats, count: int) -> tuple[tuple[int, ...], float]:
    """The `count` full steps of least total cost, step 0 among them, and that cost.

    `costs` is (steps, steps + 1), as `reuse_costs` makes it; `count` is 1 … steps.
    """
    steps = len(costs)
    best = np.full((count + 1, steps + 1), np.inf)  # [full steps left, the next of them] → cost from there on
    following = np.zeros((count + 1, steps + 1), dtype=int)
    best[0, steps] = 0.0
    for left in range(1, count + 1):
        for a in range(steps):
            sums = costs[a, a + 1 :] + best[left - 1, a + 1 :]
            choice = int(np.argmin(sums))
            best[left, a], following[left, a] = sums[choice], a + 1 + choice
    path, at = [0], 0
    for left in range(count, 1, -1):
        at = int(following[left, at])
        path.append(at)
    return tuple(path), float(best[count, 0])


def spread_weights(measured: dict[int, float], steps: int) -> Floats:
    """(steps,) weights from those that were measured in some steps: geometric means between, the nearest outside."""
    known = sorted(measured)
    logs = np.log([max(measured[step], 1e-300) for step in known])
    weights: Floats = np.exp(np.interp(np.arange(steps), known, logs))
    return weights
