"""What a run computed, saved and held."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from tocache.engine.engine import Engine
from tocache.engine.record import Record
from tocache.methods import Method
from tocache.plan.cost import everything, flops_by_site
from tocache.plan.plan import SKIPPED, Plan, Table, kind_of
from tocache.plan.score_cost import scores_by_site


@dataclass(frozen=True)
class Report:
    """The figures of the newest run; all None or empty where there was none.

    FLOPs are 2 × multiply-accumulate over the steps that were made, all passes and rows, of each step as many as it
    had; `flops_computed` is what really ran, in which sites that were overruled (nothing valid was cached) count in
    full. Seconds are host wall-clock. Where the batch changed its size on the way, `rows` and `plan` are those of the
    end, and the bytes planned those of the plan that holds most.
    """

    model: str
    family: str
    method: str
    steps: int | None = None
    passes: int | None = None
    rows: int | None = None
    steps_by_kind: dict[str, int] = field(default_factory=dict)  # full, partial, reuse
    seconds_by_kind: dict[str, float] = field(default_factory=dict)  # mean of one step
    flops_uncached: int | None = None
    flops_planned: int | None = None
    flops_computed: int | None = None
    flops_scores: int | None = None  # attention scores, on top
    cache_bytes_planned: int | None = None
    cache_bytes_peak: int | None = None
    cache_bytes_device_planned: int | None = None  # what of it is on the device
    cache_bytes_device_peak: int | None = None
    overruled: int = 0
    graphs: int | None = None  # of compiled steps, made so far
    modulated: int | None = None  # passes whose modulation was computed ahead; None where it was not asked for
    modulation_bytes: int | None = None  # at most, of what was computed ahead; not in the cache's bytes
    notes: tuple[str, ...] = ()
    plan: Plan | None = field(default=None, repr=False)

    @classmethod
    def of(cls, engine: Engine, method: Method) -> Report:
        """The report of an engine's newest run."""
        model, family = engine.family.model_name(engine.transformer), engine.family.name
        record = engine.record
        if record.plan is None or record.lifetimes is None:
            return cls(model, family, str(method))
        plan, kept = record.plan, record.lifetimes
        if record.left is not None and record.left.peak_bytes > kept.peak_bytes:
            kept = record.left
        kinds = [kind_of(row) for row in computed_table(record, plan)[: record.steps]]
        return cls(
            model=model,
            family=family,
            method=plan.method,
            steps=record.steps,
            passes=plan.passes,
            rows=plan.anatomies[0].shape.rows,
            steps_by_kind=dict(Counter(kinds)),
            seconds_by_kind=_mean_seconds(kinds, record.seconds),
            **_flops(record),
            cache_bytes_planned=kept.peak_bytes,
            cache_bytes_peak=record.peak_bytes,
            cache_bytes_device_planned=kept.peak_device_bytes,
            cache_bytes_device_peak=record.peak_device_bytes,
            overruled=record.overruled,
            graphs=None if engine.graphs is None else engine.graphs.count,
            modulated=None if engine.conditioned is None else record.modulated,
            modulation_bytes=None if engine.conditioned is None else record.modulation_bytes,
            notes=plan.anatomies[0].notes,
            plan=plan,
        )

    @property
    def speedup(self) -> float | None:
        """FLOPs uncached ÷ FLOPs computed."""
        if not self.flops_uncached or not self.flops_computed:
            return None
        return self.flops_uncached / self.flops_computed

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values, with `flops_speedup` among them and without the plan."""
        figures = asdict(replace(self, plan=None))
        del figures["plan"]
        return figures | {"notes": list(self.notes), "flops_speedup": self.speedup}

    def __str__(self) -> str:
        lines = [f"tocache: {self.method} on {self.model}"]
        if self.steps is None:
            return "\n".join([*lines, "  no run yet"])
        if not self.flops_computed or not self.flops_uncached:
            return "\n".join([*lines, "  the newest run ended in its first step"])
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.steps_by_kind.items())
        seconds = ", ".join(f"{kind} {value:.3g} s" for kind, value in self.seconds_by_kind.items())
        lines.append(f"  steps    {self.steps}: {kinds}")
        lines.append(f"  a step   {seconds}")
        computed, uncached = in_units(self.flops_computed), in_units(self.flops_uncached)
        lines.append(f"  FLOPs    {computed} of {uncached}: {self.speedup:.2f}x fewer")
        if self.flops_scores:
            lines.append(f"  scores   {in_units(self.flops_scores)} more, for {scores_text(self.plan)}")
        cache = f"  cache    {(self.cache_bytes_peak or 0) / 2**20:.1f} MiB at most"
        if self.plan is not None and self.plan.policy.offload:
            cache += f", {(self.cache_bytes_device_peak or 0) / 2**20:.1f} MiB of it on the device"
        lines.append(cache)
        if self.graphs is not None:
            lines.append(f"  compiled {self.graphs} kinds of steps")
        if self.modulated:
            mebibytes = (self.modulation_bytes or 0) / 2**20
            lines.append(f"  ahead    modulation of {self.modulated} passes, {mebibytes:.1f} MiB at most")
        if self.overruled:
            lines.append(f"  overruled  {self.overruled} times a site computed everything: nothing valid was cached")
        return "\n".join(lines)


def in_units(flops: float) -> str:
    """FLOPs with four digits and the unit that suits them: G or T."""
    return f"{flops / 1e12:.4g} T" if flops >= 1e11 else f"{flops / 1e9:.4g} G"


def scores_text(plan: Plan | None) -> str:
    """What the FLOPs of a plan's scores are spent on, in words."""
    queries = 1.0 if plan is None else plan.policy.queries
    return "exact attention scores" if queries == 1 else f"attention scores of {100 * queries:.3g}% of the queries"


def computed_table(record: Record, plan: Plan) -> Table:
    """(steps, passes, sites) what each site really computed; SKIPPED where it did not run."""
    table = np.full(plan.fresh.shape, SKIPPED, dtype=np.int32)
    for (step, number), amounts in record.computed.items():
        table[step, number] = amounts
    return table


def _flops(record: Record) -> dict[str, int]:
    """FLOPs of the passes that were made, each by the plan that it followed."""
    sums = dict.fromkeys(("flops_uncached", "flops_planned", "flops_computed", "flops_scores"), 0)
    followed = {id(plan): (plan, kept) for plan, kept in record.followed.values()}
    for plan, kept in followed.values():
        computed = np.full(plan.fresh.shape, SKIPPED, dtype=np.int32)
        made = np.zeros(plan.fresh.shape[:2], dtype=np.bool_)  # (steps, passes)
        for (step, number), (own, _) in record.followed.items():
            if own is plan:
                made[step, number], computed[step, number] = True, record.computed[step, number]
        sums["flops_uncached"] += int(flops_by_site(plan.anatomies, everything(plan))[made].sum())
        sums["flops_planned"] += int(flops_by_site(plan.anatomies, plan.amounts)[made].sum())
        sums["flops_computed"] += int(flops_by_site(plan.anatomies, computed)[made].sum())
        sums["flops_scores"] += int(scores_by_site(plan, kept)[made].sum())
    return sums


def _mean_seconds(kinds: list[str], seconds: list[float]) -> dict[str, float]:
    by_kind: dict[str, list[float]] = {}
    for kind, value in zip(kinds, seconds, strict=False):
        by_kind.setdefault(kind, []).append(value)
    return {kind: float(np.mean(values)) for kind, values in by_kind.items()}
