"""Two passes per step, of which the second may take over the first one's output."""

from __future__ import annotations

import pytest
import torch

import tocache

STEPS, COPIED, FULL = 10, (2, 3, 6, 7, 9), (0, 4)


def two_passes(tiny, model, steps: int = STEPS) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Conditional and unconditional outputs of every step."""
    outputs = []
    with tocache.run(model, timesteps=steps, cfg="two-pass") as run:
        for step in range(steps):
            outputs.append((tiny.forward(model, step, who=0), tiny.forward(model, step, who=1)))
            run.step()
    return outputs


def reuse(fresh, source, anatomy):
    fresh[[step for step in range(len(fresh)) if step not in FULL]] = 0


def reuse_and_copy(fresh, source, anatomy):
    reuse(fresh, source, anatomy)
    source[[step for step in COPIED if step < len(source)], 1:] = 0


def test_a_copied_pass_gives_out_the_first_ones_output_and_runs_nothing(tiny, table):
    model, runs = tiny.build(), []
    model.transformer_blocks[0].register_forward_hook(lambda *_: runs.append(1))
    tocache.enable(model, table(reuse_and_copy))
    outputs = two_passes(tiny, model)
    assert [torch.equal(first, second) for first, second in outputs] == [step in COPIED for step in range(STEPS)]
    assert len(runs) == 2 * STEPS - len(COPIED)
    report = tocache.report(model)
    assert report.passes == 2
    assert report.overruled == 0
    assert report.flops_computed == report.flops_planned
    assert report.cache_bytes_peak == report.cache_bytes_planned


def test_each_pass_has_a_cache_of_its_own(tiny, table):
    """Copied steps left aside, the passes are what two models would draw that share nothing."""
    model = tiny.build()
    tocache.enable(model, table(reuse_and_copy))
    outputs = two_passes(tiny, model)
    for who in (0, 1):
        alone = tiny.build()
        tocache.enable(alone, table(reuse))
        with tocache.run(alone, timesteps=STEPS, cfg=None) as run:
            for step in range(STEPS):
                expected = tiny.forward(alone, step, who=who)
                run.step()
                if who == 0 or step not in COPIED:
                    assert torch.equal(outputs[step][who], expected)


def test_a_third_pass_may_copy_the_copy(tiny_of, table):
    tiny = tiny_of("flux")

    def fill(fresh, source, anatomy):
        if fresh.shape[1] == 3:
            source[1:, 1], source[1:, 2] = 0, 1

    model = tiny.build()
    tocache.enable(model, table(fill))
    with tocache.run(model, timesteps=9, cfg="two-pass") as run:
        for step in range(9):
            one, two, three = (tiny.forward(model, step, who=who) for who in range(3))
            run.step()
            # at the first step nobody knew yet that there would be three
            assert (torch.equal(one, two), torch.equal(two, three)) == ((step > 0), (step > 0))
    assert tocache.report(model).passes == 3


def test_flux_true_cfg_makes_two_passes(tiny_of, table):
    from tocache.demo.random_pipelines import random_flux_pipeline

    pipe = random_flux_pipeline(double_depth=1, single_depth=1, hidden=32, heads=2, sample_size=16)
    pipe.set_progress_bar_config(disable=True)
    arguments = {"num_inference_steps": 9, "output_type": "latent", "max_sequence_length": 16, "height": 64}
    arguments |= {"width": 64, "true_cfg_scale": 2.0}

    def draw(**more):
        return pipe("a", generator=torch.Generator().manual_seed(0), **arguments | more).images

    guided, plain = draw(negative_prompt="b"), draw()
    tocache.enable(pipe, table(reuse_and_copy))
    # guidance between a pass and its copy guides nowhere, so the steps that are copied draw something else
    assert not torch.allclose(draw(negative_prompt="b"), guided, atol=1e-4)
    assert tocache.report(pipe).passes == 2
    tocache.enable(pipe, tocache.Uncached())
    assert torch.equal(draw(negative_prompt="b"), guided)
    assert tocache.report(pipe).passes == 2
    assert torch.equal(draw(), plain)
    assert tocache.report(pipe).passes == 1


@pytest.mark.parametrize("rows", [4, 1])
def test_an_output_of_another_shape_is_not_copied(tiny_of, table, rows):
    tiny, model = tiny_of("dit"), tiny_of("dit").build()

    def fill(fresh, source, anatomy):
        source[1:, 1:] = 0

    tocache.enable(model, table(fill))
    with tocache.run(model, timesteps=9, cfg="two-pass") as run:
        for step in range(3):
            tiny.forward(model, step, rows=2)
            assert tiny.forward(model, step, rows=rows).shape[0] == rows
            run.step()
