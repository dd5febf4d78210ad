"""What the app shows in HTML: progress, figures, errors. All that comes from outside is escaped."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tocache.generation.runs import CACHED, UNCACHED
from tocache.plan import Plan
from tocache.planning import flops_text
from tocache.reporting.heat import plan_html
from tocache.webapp.studio import Shown

KINDS = ("full", "partial", "reuse")


def progress_html(shown: Shown) -> str:
    """One bar per run, a cell per step in the colour of its kind; what goes on, or went wrong, in words."""
    bars = [
        {"name": name, "kinds": shown.kinds.get(name, ()), "counts": _counts(shown.kinds.get(name, ()))}
        for name in (UNCACHED, CACHED)
    ]
    return _render("progress.html", shown=shown, bars=bars, words=_words(shown))


def figures_html(shown: Shown) -> str:
    """Seconds, FLOPs, cache and closeness of both runs; nothing before both have ended."""
    figures = shown.report
    if not shown.done or figures is None or not shown.uncached_seconds or not shown.cached_seconds:
        return ""
    return _render(
        "figures.html",
        shown=shown,
        figures=figures,
        flops=(flops_text(figures.flops_uncached or 0), flops_text(figures.flops_computed or 0)),
        faster=shown.uncached_seconds / shown.cached_seconds,
        cache=(figures.cache_bytes_peak or 0) / 2**20,
        equal=shown.psnr == float("inf"),
    )


def plan_or_error(plan: Plan | str) -> str:
    """A plan as a heat map, or why there is none."""
    if isinstance(plan, str):
        return str(Markup('<p class="tocache-error" role="alert">{}</p>').format(plan))
    title = Markup('<p class="tocache-small"><code>{}</code></p>').format(plan.method)
    return str(title + plan_html(plan))


def _words(shown: Shown) -> str:
    if shown.error:
        return shown.error
    doing = {
        "waiting": "waiting for the device",
        "loading": "loading the model",
        "warm-up": "warming up",
        "done": "done",
    }
    return doing.get(shown.phase, f"drawing {shown.phase}")


def _counts(kinds: tuple[str, ...]) -> str:
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in KINDS if kind in kinds)


def _render(name: str, **values: object) -> str:
    environment = Environment(
        loader=PackageLoader("tocache.webapp"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(**values)
