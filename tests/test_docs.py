"""The documentation against the code: the recipes of CONTRIBUTING.md work, the tree is the package's, paths exist."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import tocache

from .docs.shown import DOCS, PAGES, ROOT, SOURCE, blocks, execute


def recipe(name: str) -> dict[str, Any]:
    """The names that the recipe's block in CONTRIBUTING.md defines."""
    (block,) = [block for block in blocks(ROOT / "CONTRIBUTING.md", "python") if block.title == f"A {name}"]
    names: dict[str, Any] = {"__name__": f"contributing_{name}"}
    execute(block, names)
    return names


class TestContributing:
    @pytest.mark.parametrize("interval", [2, 4])
    def test_the_method_runs(self, case, interval):
        shallow = recipe("method")["Shallow"]
        with pytest.raises(tocache.OptionError, match="'blocks'"):
            shallow(block=1)
        with pytest.raises(tocache.OptionError, match="interval=0"):
            shallow(interval=0)
        pipe = case.make()
        tocache.enable(pipe, shallow(interval=interval))
        case.draw(pipe)
        report = tocache.report(pipe)
        assert report.method == f"Shallow(interval={interval})"
        assert report.steps_by_kind["full"] == case.steps // interval
        assert report.flops_computed == report.flops_planned < report.flops_uncached

    def test_the_score_is_one(self):
        x = torch.zeros(2, 5, 3, dtype=torch.bfloat16)
        x[:, 3] = 1.0
        score = recipe("score")["score_contrast"](x)
        assert score.dtype == torch.float32
        assert score.shape == (2, 5)
        torch.testing.assert_close(score.norm(dim=1), torch.ones(2))
        assert score.argmax(dim=1).tolist() == [3, 3]

    def test_the_lines_that_a_recipe_changes_are_there(self):
        shown = blocks(ROOT / "CONTRIBUTING.md", "diff")
        assert shown
        for block in shown:
            header, *lines = (line.removeprefix("   ") for line in block.code.splitlines())
            code = (ROOT / header.removeprefix("# ")).read_text(encoding="utf-8")
            kept = [line.removeprefix("-") for line in lines if not line.startswith("+")]
            assert kept
            assert "\n".join(kept) in code

    def test_the_family_is_the_one_of_the_package(self):
        (block,) = [block for block in blocks(ROOT / "CONTRIBUTING.md", "python") if block.title == "A family"]
        assert block.code == (SOURCE / "models" / "hunyuan_dit.py").read_text(encoding="utf-8")


class TestArchitecture:
    def test_the_tree_is_that_of_the_package(self):
        text = (DOCS / "architecture.md").read_text(encoding="utf-8")
        listed, folders = set(), [""]
        for line in text.partition("src/tocache/\n")[2].partition("```")[0].splitlines():
            depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
            parent = folders[depth]
            if name.endswith("/"):
                folders[depth + 1 :] = [parent + name]
            else:
                listed.add(parent + name)
        there = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py")}
        packages = {name for name in there if name.endswith("/__init__.py")}  # their folder stands for them
        assert listed == there - packages, "docs/architecture.md lists other files than src/tocache has"

    def test_links_and_named_paths_exist(self):
        pattern = re.compile(r"`((?:docs|tests|scripts|src|\.ci)/[\w./-]+|[a-z]+/[a-z_]+\.py)`")
        missing = [
            (page.name, name)
            for page in PAGES
            for name in pattern.findall(page.read_text(encoding="utf-8"))
            if not (ROOT / name).exists() and not (SOURCE / name).exists()
        ]
        assert missing == []
