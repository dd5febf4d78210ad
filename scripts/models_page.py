"""Write the tables of docs/models.md: models_page.py [--check].

They are made from the registry of families and from a run of each miniature of tests/models/miniatures: which sites its
plan has, which of them compute single tokens, how guidance reaches the transformer. --check changes nothing and fails
where the page is not what would be written.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import tocache
from tocache.engine.intercept import plain_class
from tocache.models.architectures import ARCHITECTURES
from tocache.models.registry import FAMILIES
from tocache.plan import Plan
from tocache.plan.anatomy import UNCOND_COND, Site

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "models.md"
MARK = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
PUBLISHED = "published code"  # how the sources of recipes begin that stand on published constants

FAMILY_COLUMNS = ("family", "class of the transformer", "constants", "guidance", "tested with")
SITE_COLUMNS = ("family", "computed token by token", "computed whole or not at all", "scored by")


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    made = written(page, tables(runs()))
    if "--check" in sys.argv[1:]:
        sys.exit(0 if made == page else "docs/models.md is not up to date: run scripts/models_page.py")
    PAGE.write_text(made, encoding="utf-8")


def runs() -> dict[str, list[tuple[str, Plan]]]:
    """By family: each class of pipeline that a miniature has, and the plan of its run."""
    sys.path.insert(0, str(ROOT))
    from tests.models.miniatures import FAMILIES as MINIATURES

    found: dict[str, list[tuple[str, Plan]]] = {}
    for case in MINIATURES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", tocache.TocacheWarning)
            for text in case.ignored:
                warnings.filterwarnings("ignore", text)
            pipe = case.make()
            tocache.enable(pipe, tocache.ToCa(3, 0.3))
            case.draw(pipe, num_inference_steps=4)
        report = tocache.report(pipe)
        found.setdefault(report.family, []).append((plain_class(pipe).__name__, report.plan))
    return found


def tables(found: dict[str, list[tuple[str, Plan]]]) -> dict[str, str]:
    """The tables by their names in the page."""
    return {
        "families": table(("family", "class of the transformer", "constants", "guidance", "tested with"), _rows(found)),
        "sites": table(
            ("family", "computed token by token", "computed whole or not at all", "scored by"), _sites(found)
        ),
        "architectures": ", ".join(f"`{name}`" for name in ARCHITECTURES) + "\n",
    }


def written(page: str, made: dict[str, str]) -> str:
    """`page` with these tables between its marks."""
    return MARK.sub(lambda match: match[1] + made[match[2]] + match[3] if match[2] in made else match[0], page)


def _rows(found: dict[str, list[tuple[str, Plan]]]) -> Iterator[Sequence[str]]:
    for name, family in FAMILIES.items():
        recipes = [recipe.name for recipe in family.recipes if recipe.source.startswith(PUBLISHED)]
        pipelines = dict.fromkeys(pipeline for pipeline, _ in found[name])
        yield (
            f"`{name}`",
            ", ".join(f"`{cls}`" for cls in family.classes),
            f"published ({', '.join(recipes)})" if recipes else "none published",
            _guidance(family),
            ", ".join(f"`{pipeline}`" for pipeline in pipelines),
        )


def _guidance(family: Any) -> str:
    """How classifier-free guidance reaches the transformer, asked of the family itself."""
    plain = family.guidance(None, {})
    asked = {"negative_prompt": "", "negative_prompt_embeds": None}
    for argument in ("guidance_scale", "true_cfg_scale"):
        passes = family.guidance(None, {argument: 2.0, **asked}).passes
        if passes != plain.passes:
            break
    else:
        guided = SimpleNamespace(guider=SimpleNamespace(num_conditions=2))
        if family.guidance(guided, {}).passes != plain.passes:
            return "`guider` of the pipeline: a pass for each condition, cond first"
        if plain.passes[0][1] is not None:
            return f"always: one pass, {_order(plain.passes[0][1])}"
        return "none: every row is a picture"
    if len(passes) > 1:
        return f"`{argument}`: {' passes, '.join((str(len(passes)), passes[0][0]))} first"
    return f"`{argument}`: one pass, {_order(passes[0][1])}"


def _order(halves: str | None) -> str:
    return "[uncond, cond]" if halves == UNCOND_COND else "[cond, uncond]"


def _sites(found: dict[str, list[tuple[str, Plan]]]) -> Iterator[Sequence[str]]:
    for name in FAMILIES:
        sites = [site for _, plan in found[name] for site in plan.sites]
        by_token, whole = ([site for site in sites if site.rows is rows] for rows in (True, False))
        maps = {"influence": [s.self_map for s in by_token], "entropy": [s.cross_map for s in by_token]}
        known = (score + ("" if all(at) else " (some)") for score, at in maps.items() if any(at))
        yield f"`{name}`", by_stack(by_token), by_stack(whole), ", ".join(known)


def by_stack(sites: Sequence[Site]) -> str:
    """The sites of each stack, "·" being the block itself: `blocks`: attn2, ffn."""
    stacks: dict[str, dict[str, None]] = {}
    for site in sites:
        path = site.name.removeprefix(f"{site.stack}.{site.block}").lstrip(".") or "·"
        stacks.setdefault(site.stack, {})[path] = None
    return "; ".join(f"`{stack}`: {', '.join(paths)}" for stack, paths in stacks.items())


def table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
