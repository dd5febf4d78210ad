"""Plans as text, table and picture; the numbers behind them are checked, and that pictures are pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tocache.errors import OptionError
from tocache.methods import FORA, Early, Uncached
from tocache.plan import ALL, Plan
from tocache.plan.draw import LEVELS, draw_png, draw_text, heat, panels, ruler, stacks_of, step_table, steps_per_cell
from tocache.planning import plan_model


@pytest.fixture(scope="module")
def dit() -> Plan:
    return plan_model("dit-xl-2-256", "paper-ddim50")


@pytest.fixture(scope="module")
def flux() -> Plan:
    return plan_model("flux-dev-1024", "paper-n4")


def test_heat_is_the_mean_share_of_fresh_tokens(dit: Plan) -> None:
    share = heat(dit)
    assert share.shape == (50, 28)
    assert (share[0] == 1).all()
    assert (share[1] == 0).all()
    # step 48: no attention, 104 … 156 of 256 tokens in the MLPs
    assert share[48, 0] == pytest.approx(104 / 256 / 2)
    assert share[48, 27] == pytest.approx(156 / 256 / 2)


def test_the_first_block_of_the_published_schedule_stands_out(dit: Plan) -> None:
    share = heat(dit)
    early = [step for step in range(50) if share[step, 0] == 1 and share[step, 1] < 1]
    assert early == [4, 17]
    first, second = draw_text(dit, 50)[:2]
    assert (first.label, second.label) == ("0", "1–3")
    assert [first.cells[step] for step in early] == ["█", "█"]
    assert all(second.cells[step] != "█" for step in early)


def test_heat_covers_all_stacks(flux: Plan) -> None:
    assert heat(flux).shape == (50, 19 + 38)
    assert [panel.name for panel in panels(flux)] == [
        "self-attention [image]",
        "self-attention [text]",
        "mlp [image]",
        "mlp [text]",
        "self-attention [joint]",
        "parallel [joint]",
    ]
    labels = [line.label for line in draw_text(flux, 60)]
    assert labels[0] == "blocks 0"
    assert labels[-1].startswith("single ")
    assert labels[-1].endswith("–37")


@pytest.mark.parametrize(("width", "cells", "each"), [(50, 50, 1), (120, 100, 1), (30, 25, 2), (8, 8, 7)])
def test_text_fits_its_width(dit: Plan, width: int, cells: int, each: int) -> None:
    lines = draw_text(dit, width)
    assert {len(line.cells) for line in lines} == {cells}
    assert set("".join(line.cells for line in lines)) <= set(LEVELS)
    assert steps_per_cell(dit.steps, width) == each
    below = ruler(dit.steps, width)
    assert below.startswith("0")
    assert len(below) <= cells


def test_text_of_uniform_plans() -> None:
    full = plan_model("pixart-xl-2-256", Uncached())
    assert {line.cells for line in draw_text(full, 40)} == {"█" * 40}
    reused = plan_model("pixart-xl-2-256", FORA(5))
    assert {line.cells for line in draw_text(reused, 20)} == {"█····" * 4}


def test_too_narrow(dit: Plan) -> None:
    with pytest.raises(OptionError, match="width=3 is not allowed; allowed: an integer >= 8"):
        draw_text(dit, 3)


def test_step_table_merges_equal_steps(dit: Plan) -> None:
    rows = step_table(dit)
    assert [(row.first, row.last) for row in rows[:4]] == [(0, 0), (1, 3), (4, 4), (5, 5)]
    assert rows[0].fresh == {"self-attention": (256, 256), "mlp": (256, 256)}
    assert rows[2].kinds == {"partial": 1}
    assert rows[2].fresh["self-attention"] == (0, 256)
    assert sum(row.flops for row in rows) == pytest.approx(1)
    assert sum(sum(row.kinds.values()) for row in rows) == 50


def test_step_table_of_many_steps_is_short() -> None:
    plan = plan_model("dit-xl-2-256", "paper-ddpm250")
    rows = step_table(plan)
    assert len(rows) == 25
    assert rows[0].kinds == {"full": 2, "partial": 8}
    partial = plan.amounts[0:10, 0][(plan.amounts[0:10, 0] != ALL) & (plan.amounts[0:10, 0] > 0)]
    assert rows[0].fresh["mlp"] == (partial.min(), partial.max())
    assert rows[-1].last == 249
    assert sum(row.flops for row in rows) == pytest.approx(1)


def test_regions_are_drawn_over_their_blocks() -> None:
    plain = plan_model("pixart-xl-2-256", Uncached(), steps=10)
    anatomy = plain.anatomies[0].with_region("transformer_blocks", 2, 5)
    fresh = np.full((10, 1, len(anatomy.sites)), ALL, dtype=np.int32)
    region = next(i for i, site in enumerate(anatomy.sites) if site.kind == "region")
    fresh[1:, 0, region] = 0
    plan = Plan((anatomy,), fresh, plain.policy, "by hand")
    (drawn,) = (panel for panel in panels(plan) if panel.name == "region")
    assert drawn.share[1, 2:6].tolist() == [0, 0, 0, 0]
    assert drawn.share[0, 2:6].tolist() == [1, 1, 1, 1]
    # the sites inside do not run while the region is served
    assert heat(plan)[1, 3] == 0
    assert "region" not in step_table(plan)[0].fresh


def test_a_region_of_two_stacks_is_drawn_over_the_blocks_of_both() -> None:
    plan = plan_model("opensora-1.2-480p-2s", Early(2, warmup=1), steps=10)
    assert [site.name for site in plan.sites if site.kind == "region"] == ["spatial_blocks+temporal_blocks[0:28]"]
    assert stacks_of(plan) == ["spatial_blocks", "temporal_blocks"]
    regions = [panel for panel in panels(plan) if panel.name == "region"]
    assert [(panel.stack, panel.share.shape) for panel in regions] == [
        ("spatial_blocks", (10, 28)),
        ("temporal_blocks", (10, 28)),
    ]
    assert set(heat(plan).sum(axis=1)) == {0.0, 56.0}


@pytest.mark.parametrize("which", ["dit", "flux"])
def test_png(which: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    draw_png(request.getfixturevalue(which), tmp_path / "plan.png")
    with Image.open(tmp_path / "plan.png") as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=np.int64)
    assert pixels.shape[1] > 1000
    assert (pixels[0, 0] == 255).all()  # opaque, so that it can be read on a dark page
    full = (np.abs(pixels - np.array([0x7A, 0x00, 0x19])).sum(axis=2) < 10).mean()
    assert full > 0.1


def test_png_that_cannot_be_written(dit: Plan, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be written"):
        draw_png(dit, tmp_path / "missing" / "plan.png")
    with pytest.raises(OptionError, match="cannot be written"):
        draw_png(dit, tmp_path / "plan.xyz")
    with pytest.raises(OptionError, match="cannot be written"):
        draw_png(dit, tmp_path)
    assert not list(tmp_path.iterdir())
    draw_png(dit, tmp_path / "plan")
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]


def test_png_without_matplotlib(dit: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(OptionError, match=r"pip install 'tocache\[plot\]'"):
        draw_png(dit, tmp_path / "plan.png")
