"""`write_report`: a comparison as one HTML file that needs no server, no network and no other file."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tocache.errors import OptionError
from tocache.evaluation.scores import CLAIMS, EQUAL, JUDGE, LPIPS, PSNR, SSIM, WHOLE
from tocache.plan import Plan
from tocache.plan.cost import flops_by_site
from tocache.planning import flops_text, write_plan
from tocache.reporting.columns import Drawn
from tocache.reporting.comparison import Comparison
from tocache.reporting.encode import frames_uris, maps_shape, maps_uri, picture_uri
from tocache.reporting.heat import LEFT, PLOT, environment, plan_html

PAGE, FIGURES, PLANS = "index.html", "figures.json", "plans"
MAPS = ("steps", "frames", "height", "width")

NAMES = {
    PSNR: ("PSNR, dB", "to the picture without cache; more is closer"),
    SSIM: ("SSIM", "to the picture without cache; 1 is equal"),
    LPIPS: ("LPIPS", "to the picture without cache; 0 is equal"),
    JUDGE: ("judge", "distance in the features of the demos' judge; 0 is equal"),
    CLAIMS: ("claims", "share of what was asked that the demos' judge finds"),
    WHOLE: ("prompts", "share of prompts of which the demos' judge finds all"),
}


def write_report(comparison: Comparison, folder: str | Path) -> list[Path]:
    """Writes the page, the figures behind it as JSON, and every plan as a file that `enable` and the commands run.

    Raises OptionError where `folder` cannot be written.
    """
    target = Path(folder)
    written = {target / PAGE: page_html(comparison), target / FIGURES: json.dumps(figures(comparison), indent=1) + "\n"}
    plans = {target / PLANS / f"{n}.json": c.plan for n, c in enumerate(comparison.columns) if c.plan is not None}
    try:
        (target / PLANS).mkdir(parents=True, exist_ok=True)
        for path, text in written.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OptionError(f"output={str(target)!r}: cannot be written: {error.strerror or error}") from error
    for path, plan in plans.items():
        write_plan(plan, path)
    return [*written, *plans]


def page_html(comparison: Comparison) -> str:
    """The page as text. All that it was given is escaped, and its policy lets no other script run and loads nothing."""
    style, script = "\n".join((asset("style.css"), asset("plan.css"))), asset("page.js")
    page = environment().get_template("page.html")
    return page.render(
        policy="; ".join(
            (
                "default-src 'none'",
                "img-src data:",
                f"style-src '{_digest(style)}'",
                f"script-src '{_digest(script)}'",
                "base-uri 'none'",
                "form-action 'none'",
            )
        ),
        style=Markup(style),
        script=Markup(script),
        data=_data(comparison),
        about=comparison.about,
        videos=len(comparison.columns[0].drawn[0].frames) > 1,
        tasks=comparison.tasks,
        columns=[_shown(comparison, number) for number in range(len(comparison.columns))],
        metrics=[(name, *NAMES[name]) for name in comparison.metrics],
        device=any(column.device_bytes is not None for column in comparison.columns),
        left_out=[NAMES[name][0] for name in comparison.left_out],
        interrupted=comparison.interrupted,
    )


def figures(comparison: Comparison) -> dict[str, Any]:
    """All numbers of a comparison as JSON values."""
    return {
        "about": dict(comparison.about),
        "interrupted": comparison.interrupted,
        "left_out": dict(comparison.left_out),
        "prompts": [{"prompt": task.prompt, "seed": task.seed} for task in comparison.tasks],
        "methods": [
            {
                "label": column.label,
                "report": None if column.report is None else column.report.to_dict(),
                "seconds": column.median_seconds(),
                "loop_seconds": column.median_seconds("loop"),
                "speedup": comparison.speedup(column),
                "loop_speedup": comparison.speedup(column, "loop"),
                "device_bytes": column.device_bytes,
                "metrics": {name: column.figure(name) for name in comparison.metrics},
                "pictures": [
                    {"seconds": one.seconds.total, "loop_seconds": one.seconds.loop, **one.scores}
                    for one in column.drawn
                ],
            }
            for column in comparison.columns
        ],
    }


def _shown(comparison: Comparison, number: int) -> dict[str, Any]:
    """A column as the template needs it."""
    column, report = comparison.columns[number], comparison.columns[number].report
    reports = [c.report for c in comparison.columns if c.report is not None]
    uncached = next((r.flops_uncached for r in reports if r.flops_uncached), None)
    flops = uncached if report is None else report.flops_computed
    cache = None if report is None or report.cache_bytes_peak is None else f"{report.cache_bytes_peak / 2**20:.1f}"
    return {
        "label": column.label,
        "method": "every token in every step" if report is None else report.method,
        "cached": report is not None,
        "flops": None if flops is None else flops_text(flops),
        "fewer": None if report is None else report.speedup,
        "seconds": column.median_seconds(),
        "speedup": comparison.speedup(column) if report is not None else None,
        "loop": comparison.speedup(column, "loop") if report is not None else None,
        "cache": cache,
        "device": None if column.device_bytes is None else f"{column.device_bytes / 2**20:.0f}",
        "overruled": 0 if report is None else report.overruled,
        "metrics": [_figure(name, column.figure(name)) for name in comparison.metrics],
        "cells": [
            {"uri": picture_uri(one.frames[0]), "caption": _caption(one, cached=report is not None)}
            for one in column.drawn
        ],
        "plan": None if column.plan is None else plan_html(column.plan),
        "kinds": None if column.plan is None else _kinds(column.plan),
        "file": f"{PLANS}/{number}.json",
    }


def _data(comparison: Comparison) -> dict[str, Any]:
    """What the page's script needs."""
    maps = next((one.fresh for c in comparison.columns for one in c.drawn if one.fresh is not None), None)
    videos = len(comparison.columns[0].drawn[0].frames) > 1
    return {
        "fps": comparison.fps,
        "frames": len(comparison.columns[0].drawn[0].frames),
        "maps": None if maps is None else dict(zip(MAPS, maps_shape(maps), strict=True)),
        "heat": {"left": LEFT, "plot": PLOT},
        "columns": [
            {"label": column.label, "steps": [] if column.plan is None else _steps(column.plan)}
            for column in comparison.columns
        ],
        "prompts": [
            {
                "text": str(task.prompt),
                "cells": [
                    {
                        "frames": frames_uris(column.drawn[number].frames) if videos else None,
                        "map": _map(column.drawn[number]),
                        "caption": _caption(column.drawn[number], cached=column.report is not None),
                    }
                    for column in comparison.columns
                ],
            }
            for number, task in enumerate(comparison.tasks)
        ],
    }


def _map(one: Drawn) -> str | None:
    return None if one.fresh is None else maps_uri(one.fresh)


def _steps(plan: Plan) -> list[dict[str, Any]]:
    """Kind and share of a full step's FLOPs of every step."""
    flops = flops_by_site(plan.anatomies, plan.amounts).sum(axis=(1, 2))
    full = max(1, int(flops.max()))
    return [{"kind": plan.kind_of_step(step), "flops": float(flops[step]) / full} for step in range(plan.steps)]


def _kinds(plan: Plan) -> str:
    counts = Counter(plan.kind_of_step(step) for step in range(plan.steps))
    return ", ".join(f"{counts[kind]} {kind}" for kind in ("full", "partial", "reuse") if counts[kind])


def _caption(one: Drawn, *, cached: bool) -> str:
    """Seconds and the closeness of one picture, in a few words."""
    parts = [f"{one.seconds.total:.3g} s"]
    if cached and PSNR in one.scores:
        equal = one.scores[PSNR] >= EQUAL
        parts.append("equal to the pixel" if equal else f"PSNR {one.scores[PSNR]:.1f} dB")
    if cached and SSIM in one.scores and one.scores.get(PSNR, 0) < EQUAL:
        parts.append(f"SSIM {one.scores[SSIM]:.3f}")
    return " · ".join(parts)


def _figure(name: str, figure: dict[str, float] | None) -> tuple[str, str]:
    """Mean and interval as text; of shares in percent."""
    if figure is None:
        return "—", ""
    form = {PSNR: "{:.1f}", JUDGE: "{:.4f}", CLAIMS: "{:.0%}", WHOLE: "{:.0%}"}.get(name, "{:.3f}")
    if name == PSNR and figure["mean"] >= EQUAL:
        return "equal", ""
    texts = [form.format(figure[part]) for part in ("mean", "low", "high")]
    return texts[0], "" if texts[1] == texts[2] else f"{texts[1]}–{texts[2]}"


def asset(name: str) -> str:
    """The text of a file beside the templates."""
    return (files("tocache.reporting") / "templates" / name).read_text(encoding="utf-8").strip()


def _digest(text: str) -> str:
    """What a content security policy calls this very text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
