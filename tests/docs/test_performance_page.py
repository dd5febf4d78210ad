"""The page's predictions are those of the code, and its table of GPUs, too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tocache.plan.roofline import PROCESSORS, attaining, predict
from tocache.planning import plan_model

PAGE = (Path(__file__).parents[2] / "docs" / "performance.md").read_text(encoding="utf-8")


def rows(start: str) -> list[list[str]]:
    """The cells of the table whose head begins like this."""
    lines = PAGE[PAGE.index(start) :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_gpus() -> None:
    found = {name.strip("`"): figures for name, *figures in rows("| `--on` |")}
    assert found.keys() == PROCESSORS.keys()
    for name, (flops, memory, ridge, _) in found.items():
        processor = PROCESSORS[name]
        assert float(flops) == pytest.approx(processor.flops_per_second / 1e12)
        assert float(memory) == pytest.approx(processor.bytes_per_second / 1e9)
        assert ridge == f"{processor.ridge:.0f}"


@pytest.mark.parametrize("row", rows("| model, preset | rows | FLOPs | H100 |"), ids=lambda row: f"{row[0]} {row[1]}")
def test_the_predictions(row: list[str]) -> None:
    named, count, flops, *ratios = row
    model, preset = re.findall(r"`([^`]+)`", named)
    usual = plan_model(model, preset).anatomies[0].shape.rows
    plan = plan_model(model, preset, pictures=int(count) // usual)
    slower = attaining(PROCESSORS["h100"], 0.6)
    predictions = [predict(plan, processor) for processor in (*PROCESSORS.values(), slower)]
    predictions += [predict(plan, slower, scores=False, ahead=ahead) for ahead in (False, True)]
    assert flops == f"{predictions[0].flops_speedup:.2f}×"
    assert ratios == [f"{prediction.realised_over_flops:.2f}" for prediction in predictions]
