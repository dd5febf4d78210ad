"""What is computed ahead of the steps: served only where times and conditions are known to be the table's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tocache
from tocache.engine import ahead
from tocache.engine.ahead import is_entry

STEPS = 10
TIMES = torch.tensor([900.0 - 50 * step for step in range(STEPS)])
METHOD = tocache.ToCa(3, 0.3)


def outputs(model: Any, inputs: Any, times: Any = TIMES) -> list[torch.Tensor]:
    """Of a run by hand with the forwards `inputs(step)`."""
    found = []
    with torch.no_grad(), tocache.run(model, timesteps=times, cfg=None) as run:
        for step in range(STEPS):
            found.append(model(**inputs(step))[0])
            run.step()
    return found


def check(model: Any, inputs: Any, served: int, times: Any = TIMES) -> None:
    """With the table and without, a run gives the same within rounding; `served` of its passes had the table."""
    tocache.enable(model, METHOD)
    wanted = outputs(model, inputs)
    tocache.enable(model, METHOD, modulate_ahead=True)
    for one, other in zip(outputs(model, inputs, times), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert tocache.report(model).modulated == served


def flux_times(step: int) -> torch.Tensor:
    return TIMES[step].expand(2) / 1000


def test_a_loop_by_hand_that_tells_its_times(tiny_of: Any) -> None:
    tiny = tiny_of("dit")
    model = tiny.build()
    check(model, tiny.inputs, STEPS, TIMES.long())
    check(model, tiny.inputs, STEPS, TIMES.tolist())
    tiny = tiny_of("flux")
    check(tiny.build(), lambda step: tiny.inputs(step) | {"timestep": flux_times(step)}, STEPS)


def test_a_loop_by_hand_that_does_not(tiny_of: Any) -> None:
    tiny = tiny_of("dit")
    with pytest.warns(tocache.TocacheWarning, match="not ahead: the times of the run are not known"):
        check(tiny.build(), tiny.inputs, 0, STEPS)


def test_other_times_than_were_told(tiny_of: Any) -> None:
    tiny = tiny_of("dit")
    with pytest.warns(tocache.TocacheWarning, match="not ahead: the model's time is not known"):
        check(tiny.build(), tiny.inputs, 5, torch.where(torch.arange(STEPS) < 5, TIMES, TIMES - 1).long())


def test_times_that_differ_among_the_rows(tiny_of: Any) -> None:
    tiny = tiny_of("dit")

    def inputs(step: int) -> dict[str, Any]:
        given = tiny.inputs(step)
        return given | {"timestep": given["timestep"] - torch.tensor([0, 1])} if step == 6 else given

    with pytest.warns(tocache.TocacheWarning, match="not ahead: the model's time"):
        check(tiny.build(), inputs, STEPS - 1, TIMES.long())


@pytest.mark.parametrize("in_place", [False, True])
def test_conditions_that_change_within_the_run(tiny_of: Any, in_place: bool) -> None:
    tiny = tiny_of("dit")
    labels = torch.tensor([1, 2])

    def inputs(step: int) -> dict[str, Any]:
        if in_place and step in (0, 4):
            labels.copy_(torch.tensor([3, 3] if step else [1, 2]))
        other = torch.tensor([3, 3]) if step >= 4 else labels
        return tiny.inputs(step) | {"class_labels": labels if in_place else other}

    with pytest.warns(tocache.TocacheWarning, match="not ahead: its conditions changed within the run"):
        check(tiny.build(), inputs, 4, TIMES.long())


def test_an_adapters_scale_is_the_forwards_own(tiny_of: Any) -> None:
    tiny = tiny_of("flux")

    def inputs(step: int) -> dict[str, Any]:
        return tiny.inputs(step) | {"timestep": flux_times(step), "joint_attention_kwargs": {"scale": None}}

    check(tiny.build(), inputs, STEPS)
    assert ahead._scaled({"scale": 0.5})
    assert not ahead._scaled(None)


def test_as_many_steps_at_a_time_as_fit(tiny_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = tiny_of("dit")
    model = tiny.build()
    check(model, tiny.inputs, STEPS, TIMES.long())
    whole = tocache.report(model).modulation_bytes
    monkeypatch.setattr(ahead, "MOST_BYTES", whole // 3)
    check(model, tiny.inputs, STEPS, TIMES.long())
    part = tocache.report(model).modulation_bytes
    assert whole // 5 < part <= whole // 3
    monkeypatch.setattr(ahead, "MOST_BYTES", 1)
    check(model, tiny.inputs, STEPS, TIMES.long())
    assert tocache.report(model).modulation_bytes == whole // STEPS


def test_the_bytes_are_those_of_all_rows(tiny_of: Any) -> None:
    tiny = tiny_of("dit")
    model = tiny.build()
    check(model, tiny.inputs, STEPS, TIMES.long())
    width, depth = 16, 4
    numbers = depth * (width + 6 * width) + 2 * width
    assert tocache.report(model).modulation_bytes == STEPS * 2 * numbers * 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Dynamo's own imports
def test_compiled_steps_take_the_rows_as_inputs(tiny_of: Any) -> None:
    tiny = tiny_of("dit")
    model = tiny.build()
    others = {"class_labels": torch.tensor([4, 5])}
    tocache.enable(model, METHOD)
    wanted = [outputs(model, tiny.inputs), outputs(model, lambda step: tiny.inputs(step) | others)]
    tocache.enable(model, METHOD, modulate_ahead=True)
    tocache.compile(model, disable=True)
    found = [outputs(model, tiny.inputs, TIMES.long())]
    graphs = tocache.report(model).graphs
    found.append(outputs(model, lambda step: tiny.inputs(step) | others, TIMES.long()))
    assert tocache.report(model).graphs == graphs
    assert tocache.report(model).modulated == STEPS
    for run, plain in zip(found, wanted, strict=True):
        for one, other in zip(run, plain, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_what_a_loop_hands_on_is_known_by_where_it_lies() -> None:
    """The check on devices whose numbers are not read: no number of a tensor is looked at."""
    times = torch.tensor([9, 5, 5, 1])
    for time, entry in zip(times, map(times.__getitem__, range(4)), strict=True):  # as a loop has it, and the table
        for rows in (time.expand(3), time[None].expand(3), time[None]):
            assert is_entry(rows, entry)
    assert not is_entry(times[1].expand(3), times[2])  # equal, but of another step
    assert not is_entry(times[1:3], times[1])
    assert not is_entry(times[1].expand(3).clone(), times[1])
    assert not is_entry(times[1].expand(3).float(), times[1])


def test_a_schedule_that_was_written_to_is_not_trusted() -> None:
    schedule = ahead._as_times(torch.tensor([3, 2, 1]))
    assert schedule.untouched
    schedule.given[1] = 5
    assert not schedule.untouched
    assert schedule.values.tolist() == [3, 2, 1]
    with torch.inference_mode():
        assert not ahead._as_times(torch.tensor([3, 2, 1])).untouched
    assert ahead._as_times(range(3)) is None
