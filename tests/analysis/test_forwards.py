"""Forwards made again: from a block on they give bit for bit what the whole forward gives."""

from __future__ import annotations

import pytest
import torch

import tocache
from tocache.analysis.forwards import answer_of, around_forwards, length
from tocache.methods import Uncached


def test_a_forward_from_any_block_on_is_the_whole_forward(subject_of, family):
    subject, compared = subject_of(family), 0

    def measure(forward):
        nonlocal compared
        output = forward.make()
        if forward.step in (0, 7):
            for site in forward.plan.sites:
                assert torch.equal(forward.make_from(site)[0], output[0]), site.name
                compared += 1
        return output

    plain = subject.draw(Uncached()).pictures
    drawn = subject.draw(Uncached(), on_forward=measure)
    assert torch.equal(drawn.pictures, plain)
    assert compared == 2 * drawn.plan.passes * len(drawn.plan.sites)


def test_blocks_before_do_not_run_and_those_after_do(subject_of):
    subject, ran = subject_of("dit"), []
    blocks = subject.pipe.transformer.transformer_blocks
    hooks = [
        block.norm1.register_forward_hook(lambda *_, number=number: ran.append(number))
        for number, block in enumerate(blocks)
    ]

    def measure(forward):
        output = forward.make()
        ran.clear()
        forward.make_from(forward.plan.sites[forward.plan.anatomies[0].index["transformer_blocks.2.ff"]])
        assert ran == [2, 3]
        return output

    try:
        subject.draw(Uncached(), on_forward=measure)
    finally:
        for hook in hooks:
            hook.remove()
    assert ran


def test_modules_are_as_they_were_afterwards(subject_of):
    subject = subject_of("pixart")
    with pytest.raises(ZeroDivisionError):
        subject.draw(Uncached(), on_forward=lambda forward: 1 / 0)
    assert [name for name, module in subject.pipe.transformer.named_modules() if "forward" in vars(module)] == []
    with pytest.raises(tocache.NotEnabledError), around_forwards(subject.pipe, lambda forward: forward.make()):
        pass


def test_a_forward_that_a_hook_has_replaced_is_put_back(subject_of):
    """accelerate's offloading sets `forward` on the instance; a study stands around it and leaves it there."""
    subject = subject_of("dit")
    transformer, calls = subject.pipe.transformer, []
    own = transformer.forward

    def offloaded(*args, **kwargs):
        calls.append(1)
        return own(*args, **kwargs)

    transformer.__dict__["forward"] = offloaded
    try:
        subject.draw(Uncached(), on_forward=lambda forward: forward.make())
        assert len(calls) == 12
        assert vars(transformer)["forward"] is offloaded
    finally:
        del transformer.__dict__["forward"]


class TestAnswer:
    @pytest.mark.parametrize("family", ["dit", "pixart"])
    def test_halves_are_guided_as_the_pipeline_guides_them(self, subject_of, family):
        """Against what the scheduler is really given."""
        subject, mine, given = subject_of(family, guidance=3.0), [], []
        scheduler = subject.pipe.scheduler

        def measure(forward):
            if forward.step == 0:  # only now: tocache's own hold on the scheduler stands in its class
                step = scheduler.step
                scheduler.__dict__["step"] = lambda answer, *a, **k: (given.append(answer), step(answer, *a, **k))[1]
            output = forward.make()
            mine.append(answer_of(output, forward, subject.guidance))
            return output

        try:
            subject.draw(Uncached(), on_forward=measure)
        finally:
            scheduler.__dict__.pop("step")
        assert len(mine) == len(given) == 12
        for one, other in zip(mine, given, strict=True):
            # DiTPipeline guides both halves alike
            torch.testing.assert_close(one, other[: len(one)].float(), rtol=1e-4, atol=1e-5)

    def test_lengths_are_by_picture(self):
        answers = torch.zeros(2, 3, 4, 4)
        answers[1, 0, 0, :2] = torch.tensor([3.0, 4.0])
        assert length(answers).tolist() == [0.0, 5.0]
