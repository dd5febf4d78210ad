"""Families whose texts are padded into the stream of tokens: padding is never chosen, and asked for once a pass."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

import tocache
from tocache.session import required

from ..conftest import Case
from .miniatures import bria_fibo, hunyuan_framepack, hunyuan_image, hunyuan_video, lumina2, omnigen, z_image

STEPS = 9


PADDED = [
    case
    for family in (lumina2, z_image, hunyuan_video, hunyuan_framepack, hunyuan_image, bria_fibo, omnigen)
    for case in family.CASES
]


@pytest.fixture(params=PADDED, ids=lambda case: case.name)
def padded(request: pytest.FixtureRequest) -> Case:
    case: Case = request.param
    if missing := [name for name in case.needs if not hasattr(diffusers, name)]:
        pytest.skip(f"diffusers {diffusers.__version__} has no {', '.join(missing)}")
    return case


def test_padding_is_never_chosen_and_asked_for_once_a_pass(padded: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = padded.make()
    tocache.enable(pipe, tocache.ToCa(3, 0.4))
    engine = required(pipe).engine
    family = engine.family
    asked: list[dict[str, torch.Tensor]] = []
    passes: list[tuple[int, int]] = []
    ask = family.present

    def noted(*arguments: Any) -> Any:
        assert engine.run is not None
        passes.append((engine.run.step, engine.run.number))
        asked.append(dict(ask(*arguments)))
        return asked[-1]

    monkeypatch.setattr(family, "present", noted)
    with tocache.trace(pipe) as seen:
        padded.draw(pipe, seeds=(0, 1, 2), num_inference_steps=STEPS)  # texts of three lengths
    partial = {(step, number) for step, number, _ in seen.choices}
    assert len(set(passes)) == len(passes)
    # full passes ask where padding looks at what it may, so that a map must be read without it
    assert 0 < len(partial) <= len(passes)
    assert partial <= set(passes)
    (group,) = asked[0]
    present = asked[0][group]
    assert not present.all()
    streams = [site.name for site in seen.plan.sites if site.group == group and site.rows]
    looked = 0
    for (_, _, site), index in seen.choices.items():
        if site in streams:
            assert present.gather(1, index).all()
            looked += 1
    assert looked
