"""What the commands print: plans, results, models, the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tocache.demo import DEMO_NAMES
from tocache.plan.draw import LEVELS, Stretch, draw_text, ruler, step_table, steps_per_cell

if TYPE_CHECKING:
    from tocache.doctor import Diagnosis
    from tocache.generation import Generated
    from tocache.plan import Plan
    from tocache.supported import FamilySupport

# One style per character of LEVELS: nothing, little … much, all.
STYLES = dict(zip(LEVELS, ("bright_black", "cyan", "blue", "bold blue", "red"), strict=True))


def show_plan(plan: Plan) -> None:
    """Prints a plan: summary, heat map, table of the steps, notes."""
    console = _console()
    _print_summary(console, plan)
    console.print()
    _print_heat(console, plan)
    console.print()
    _print_steps(console, plan)


def show_generated(result: Generated) -> None:
    """Prints the report of a picture or video, and where it was saved."""
    from tocache.generation import caption

    console = _console()
    console.print(str(result.report))
    kind = "picture" if len(result.frames) == 1 else "video"
    if result.uncached is None:
        console.print(f"  total    {result.seconds:.3g} s, from the prompt to the {kind}")
    else:
        # the first line repeats the report's
        for part in caption(result).splitlines()[-1].split(" · "):
            console.print(f"  compared {part}")
    console.print(f"{kind} saved: {result.output}")


def show_models(families: list[FamilySupport]) -> None:
    """Prints the model families, each with what it supports."""
    console = _console()
    for family in families:
        grid = _grid()
        grid.add_row("classes", ", ".join(family.classes))
        grid.add_row("known to plan", ", ".join(family.architectures))
        grid.add_row("methods", ", ".join(family.methods))
        grid.add_row("single tokens of", ", ".join(family.partial))
        grid.add_row("whole only", ", ".join(family.whole))
        grid.add_row("attention scores", ", ".join(family.scores))
        for name, source in family.recipes.items():
            grid.add_row("recipe", f"{name}: {source}")
        for name, source in family.presets.items():
            grid.add_row("preset", f"{name}: {source}")
        grid.add_row("by default", f"{family.default_steps} steps, guidance {family.default_guidance:g}")
        console.print(Text(family.family, "bold"))
        console.print(grid)
        console.print()
    console.print(Text("demos", "bold"))
    console.print(f"{', '.join(DEMO_NAMES)}: tiny, nothing to download; those called random have random weights")


def show_diagnosis(found: Diagnosis) -> None:
    """Prints versions, devices and abilities; what is missing is said."""
    console = _console()
    for title, entries in (("versions", found.versions), ("devices", found.devices), ("abilities", found.abilities)):
        grid = _grid()
        for name, value in entries.items():
            grid.add_row(name, Text("missing", "yellow") if value is None else value)
        console.print(Text(title, "bold"))
        console.print(grid)


def _print_summary(console: Console, plan: Plan) -> None:
    from tocache.planning import flops_text, summarize
    from tocache.reports import scores_text

    summary = summarize(plan)
    shape = plan.anatomies[0].shape
    kinds = ", ".join(f"{summary.steps_by_kind.get(kind, 0)} {kind}" for kind in ("full", "partial", "reuse"))
    tokens = ", ".join(f"{count} {group}" for group, count in shape.tokens.items())
    grid = _grid()
    grid.add_row("model", summary.model)
    grid.add_row("method", summary.method)
    grid.add_row("batch", f"{_rows(summary.rows)} of {tokens} tokens{_passes(plan)}")
    grid.add_row("steps", f"{summary.steps}: {kinds}")
    grid.add_row(
        "FLOPs",
        f"{flops_text(summary.flops_uncached)} → {flops_text(summary.flops_planned)}, {summary.ratio:.2f}× fewer",
    )
    if summary.flops_scores:
        grid.add_row("scores", f"{flops_text(summary.flops_scores)} more, for {scores_text(plan)}")
    cache = f"{summary.cache_bytes / 2**20:.1f} MiB at most"
    if plan.policy.offload:
        cache += f", {summary.cache_bytes_device / 2**20:.1f} MiB of it on the device"
    grid.add_row("cache", cache)
    for note in summary.notes:
        grid.add_row("note", note)
    console.print(grid)


def _passes(plan: Plan) -> str:
    first, *others = (anatomy.shape for anatomy in plan.anatomies)
    if not others:
        return ""
    if all((other.rows, other.tokens) == (first.rows, first.tokens) for other in others):
        return f" in each of {plan.passes} passes"
    return "".join(f", then {_rows(other.rows)} in a pass {other.name!r}" for other in others)


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _print_heat(console: Console, plan: Plan) -> None:
    lines = draw_text(plan, max(8, min(console.width, 140) - 16))
    margin = max(len(line.label) for line in lines)
    cells = console.width - margin - 3
    lines = draw_text(plan, max(8, min(cells, 140)))
    each = steps_per_cell(plan.steps, max(8, min(cells, 140)))
    per_cell = f"; a cell is the mean of {each} steps" if each > 1 else ""
    console.print(Text(f"fresh tokens by block (down) and step (across){per_cell}", "bold"))
    for line in lines:
        text = Text(f" {line.label:>{margin}} ")
        for cell in line.cells:
            text.append(cell, STYLES[cell])
        console.print(text)
    console.print(Text(" " * (margin + 2) + ruler(plan.steps, max(8, min(cells, 140))), "bright_black"))
    legend = Text(" " * (margin + 2))
    for cell, meaning in zip(LEVELS, ("none  ", "up to 10%  ", "up to 25%  ", "more  ", "all"), strict=True):
        legend.append(cell, STYLES[cell]).append(f" {meaning}")
    console.print(legend)


def _print_steps(console: Console, plan: Plan) -> None:
    rows = step_table(plan)
    names = list(rows[0].fresh)
    # what is never computed for single tokens says no more than the kind of the step does
    shown = [name for name in names if any(_is_partial(row, name) for row in rows)] if len(names) > 3 else names
    console.print(Text("fresh tokens at one site, fewest–most, and share of the FLOPs", "bold"))
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("step", justify="right", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for name in shown:
        table.add_column(name, justify="right")
    table.add_column("FLOPs", justify="right")
    for row in rows:
        kind = next(iter(row.kinds)) if len(row.kinds) == 1 else _mixed(row)
        tokens = [_span(*row.fresh[name]) for name in shown]
        table.add_row(_span(row.first, row.last), kind, *tokens, f"{row.flops:.1%}")
    console.print(table)
    if any(len(row.kinds) > 1 for row in rows):
        console.print("lines of several kinds: sites that compute all their tokens are left out", style="bright_black")
    hidden = [name for name in names if name not in shown]
    if hidden:
        console.print(f"not listed, computed whole or not at all: {', '.join(hidden)}", style="bright_black")


def _is_partial(row: Stretch, name: str) -> bool:
    return "partial" in row.kinds and row.fresh[name][1] > 0


def _mixed(row: Stretch) -> str:
    return ", ".join(f"{row.kinds[kind]} {kind}" for kind in ("full", "partial", "reuse") if kind in row.kinds)


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}–{last}"


def _grid() -> Any:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bright_black", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _console() -> Console:
    # numbers and paths are not coloured by guess; a pipe gets its lines unbroken by anything but the table's width
    return Console(highlight=False, markup=False)
