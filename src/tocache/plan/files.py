"""A plan as one versioned JSON file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocache.errors import PlanError, PlanFileError
from tocache.plan.anatomy import Anatomy, Cost, Pass, Site
from tocache.plan.cost import flops_planned, flops_uncached
from tocache.plan.memory import lifetimes
from tocache.plan.plan import Plan
from tocache.plan.policy import Policy
from tocache.plan.score_cost import flops_scores

FORMAT = "tocache-plan"
VERSION = 1


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """The plan as JSON values: what it costs first, then passes, sites (costs per pass), amounts and policy."""
    assert plan.source is not None
    return {
        "format": FORMAT,
        "version": VERSION,
        "family": plan.anatomies[0].family,
        "model": plan.anatomies[0].model,
        "method": plan.method,
        "steps": plan.steps,
        "flops_uncached": flops_uncached(plan),
        "flops_planned": flops_planned(plan),
        "flops_scores": flops_scores(plan),
        "cache_bytes": lifetimes(plan).peak_bytes,
        "cache_bytes_device": lifetimes(plan).peak_device_bytes,
        "notes": list(plan.anatomies[0].notes),
        **({"origin": dict(plan.origin)} if plan.origin else {}),
        "policy": plan.policy.to_dict(),
        "passes": [asdict(anatomy.shape) for anatomy in plan.anatomies],
        "outside": [[anatomy.outside, anatomy.ahead] for anatomy in plan.anatomies],
        "sites": [
            asdict(site) | {"costs": [asdict(anatomy.costs[i]) for anatomy in plan.anatomies]}
            for i, site in enumerate(plan.sites)
        ],
        "source": plan.source.tolist(),
        "fresh": plan.fresh.tolist(),
    }


def plan_from_dict(data: Any) -> Plan:
    """The plan that `plan_to_dict` wrote. Raises PlanFileError where `data` is none, or of another version."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise PlanFileError(f"this is not a plan: no 'format': {FORMAT!r} at its top level")
    if data.get("version") != VERSION:
        raise PlanFileError(f"plan version {data.get('version')!r} cannot be read; this release reads {VERSION}")
    for key in ("family", "model", "method"):
        if key in data and not isinstance(data[key], str):
            raise PlanFileError(f"the plan is damaged: {key!r} is {data[key]!r} and not a name")
    try:
        sites = tuple(_site(entry) for entry in data["sites"])
        outsides = data.get("outside", [[0, 0]] * len(data["passes"]))
        anatomies = tuple(
            Anatomy(
                family=data["family"],
                model=data["model"],
                shape=_pass(shape),
                sites=sites,
                costs=tuple(Cost(**entry["costs"][p]) for entry in data["sites"]),
                notes=tuple(data["notes"]),
                outside=int(outside),
                ahead=int(ahead),
            )
            for p, (shape, (outside, ahead)) in enumerate(zip(data["passes"], outsides, strict=True))
        )
        fresh, source = _integers(data["fresh"], np.int32), _integers(data["source"], np.int8)
        policy, origin = Policy.from_dict(data["policy"]), dict(data.get("origin", {}))
        return Plan(anatomies, fresh, policy, data["method"], source, origin)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise PlanFileError(f"the plan is damaged: {type(error).__name__}: {error}") from error


def save_plan(plan: Plan, path: str | Path) -> None:
    """Writes `plan` as JSON."""
    Path(path).write_text(json.dumps(plan_to_dict(plan)) + "\n", encoding="utf-8")


def load_plan(path: str | Path) -> Plan:
    """Reads a plan that `save_plan` wrote. Raises PlanFileError where the file is missing or holds none."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanFileError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise PlanFileError(f"{path}: not JSON: {error}") from error
    try:
        return plan_from_dict(data)
    except PlanError as error:
        raise PlanFileError(f"{path}: {error}") from error


def _integers(rows: Any, dtype: Any) -> NDArray[Any]:
    """The nested lists as an array. Raises ValueError where they hold anything but integers that fit."""
    table = np.array(rows)
    if table.dtype.kind != "i" or (table != table.astype(dtype)).any():
        raise ValueError(f"a table of {table.dtype} where integers of {np.dtype(dtype).name} belong")
    return table.astype(dtype)


def _site(entry: dict[str, Any]) -> Site:
    fields = {key: value for key, value in entry.items() if key != "costs"}
    return Site(**fields | {"inside": tuple(fields["inside"])})


def _pass(entry: dict[str, Any]) -> Pass:
    grid = entry["grid"]
    return Pass(**entry | {"grid": None if grid is None else tuple(grid)})
