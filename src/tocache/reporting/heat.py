"""A plan as a heat map in HTML, for the page and the app: legible on light and on dark, without scripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tocache.plan import Plan, flops_planned, flops_uncached
from tocache.plan.draw import Panel, panels, stacks_of, step_table
from tocache.reporting.encode import FULL, blend, heat_uri

WIDTH, LEFT, RIGHT, ABOVE, BELOW = 720, 34, 8, 16, 30
"""Of the drawing, in units that scale with its width: sides, a panel's title, the numbers of the steps."""
PLOT = WIDTH - LEFT - RIGHT
_TOPS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)  # at which the strongest blue may lie
_TABLE_LINES = 40


@dataclass(frozen=True)
class Drawn:
    """One panel as the template needs it."""

    title: str
    uri: str
    y: float
    height: float
    last: int  # number of the last block


def environment() -> Environment:
    """Templates that escape all they are given, and stop at what they are not given."""
    loader = PackageLoader("tocache.reporting")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["span"] = _span
    return environment


def plan_html(plan: Plan) -> Markup:
    """A plan as a figure: shares of fresh tokens by kind of site, block and step, a legend, and the same as a table."""
    shown = panels(plan)
    partial = max((float(p.share[p.share < 1].max(initial=0)) for p in shown), default=0.0)
    top = next(t for t in _TOPS if t >= min(partial, 1.0))
    drawn, y = [], 0.0
    for panel in shown:
        height = min(150.0, max(36.0, 3.2 * panel.share.shape[1]))
        y += ABOVE
        drawn.append(Drawn(_title(panel, plan), heat_uri(panel.share, top), y, height, panel.share.shape[1] - 1))
        y += height + 4
    kinds = Counter(plan.kind_of_step(step) for step in range(plan.steps))
    page = environment().get_template("plan.html")
    return Markup(
        page.render(
            panels=drawn,
            height=y + BELOW,
            foot=y,
            width=WIDTH,
            left=LEFT,
            plot=PLOT,
            steps=plan.steps,
            ticks=[(step, LEFT + PLOT * (step + 0.5) / plan.steps) for step in _ticks(plan.steps)],
            summary=", ".join(f"{kinds[kind]} {kind}" for kind in ("full", "partial", "reuse") if kinds[kind]),
            ratio=flops_uncached(plan) / max(1, flops_planned(plan)),
            top=top,
            partial=partial > 0,
            colours={"full": _hex(FULL), "shades": [_hex(blend(k / 3)) for k in range(4)]},
            table=step_table(plan, _TABLE_LINES),
        )
    )


def _title(panel: Panel, plan: Plan) -> str:
    return panel.name if len(stacks_of(plan)) == 1 else f"{panel.name}, {panel.stack}"


def _ticks(steps: int) -> range:
    return range(0, steps, next(n for n in (1, 2, 5, 10, 20, 25, 50, 100, steps) if steps <= 12 * n))


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}–{last}"


def _hex(colour: Iterable[float]) -> str:
    return "#" + "".join(f"{round(value):02x}" for value in colour)
