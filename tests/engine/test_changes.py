"""What changes in the middle of a run: batches, passes, plans that cannot be, and errors on the way."""

from __future__ import annotations

import time

import pytest
import torch

import tocache
from tocache.plan import Policy

KINDS = dict.fromkeys(("self_attention", "mlp"), 0)
SITES = 8  # of the tiny DiT


@pytest.fixture
def tiny(tiny_of):
    """A DiT: it counts down, so of 12 steps FORA(3) computes s = 11, 9, 6, 3, 0 in full."""
    return tiny_of("dit")


class TestBatches:
    def test_guidance_switched_off_on_the_way_is_computed_once_and_cached_again(self, tiny):
        model, outputs = tiny.build(), []
        plain = [tiny.forward(model, step, rows=1) for step in range(12)]
        tocache.enable(model, tocache.FORA(3))
        with tocache.run(model, timesteps=12, cfg="cond,uncond") as run:
            for step in range(12):
                outputs.append(tiny.forward(model, step, rows=2 if step < 4 else 1))
                run.step()
        report = tocache.report(model)
        assert (report.rows, report.overruled) == (1, SITES)
        computed = [torch.equal(outputs[step], plain[step]) for step in range(4, 12)]
        assert computed == [step in (4, 5, 8, 11) for step in range(4, 12)]

    @pytest.mark.parametrize("turn", [6, 11])
    def test_every_step_is_counted_at_its_own_size(self, tiny, turn):
        reports = {}
        for sizes in ([2] * 12, [1] * 12, [2] * turn + [1] * (12 - turn)):
            model = tiny.build()
            tocache.enable(model, tocache.ToCa(3, 0.3))
            with tocache.run(model, timesteps=12, cfg=None) as run:
                for step, rows in enumerate(sizes):
                    tiny.forward(model, step, rows=rows)
                    run.step()
            reports[sizes[0], sizes[-1]] = tocache.report(model)
        large, small, both = reports[2, 2], reports[1, 1], reports[2, 1]
        assert both.flops_uncached == (turn * large.flops_uncached + (12 - turn) * small.flops_uncached) // 12
        assert small.flops_planned < both.flops_planned < large.flops_planned
        assert both.flops_computed >= both.flops_planned  # the step of the change is computed whole
        assert small.flops_scores < both.flops_scores
        assert both.cache_bytes_planned == both.cache_bytes_peak > small.cache_bytes_peak

    def test_it_goes_on_as_a_run_that_began_with_the_smaller_batch(self, tiny, table, by_kind):
        amounts = {"self_attention": 0, "mlp": 5}
        policy = Policy({"influence": 1.0}, 0.25, 3, together=True)
        model, reference, outputs = tiny.build(), tiny.build(), []
        tocache.enable(model, table(by_kind((0, 6), **amounts), policy))
        with tocache.run(model, timesteps=12, cfg="cond,uncond") as run:
            for step in range(12):
                outputs.append(tiny.forward(model, step, rows=4 if step < 6 else 2))
                run.step()
        tocache.enable(reference, table(by_kind((0, 6), **amounts), policy))
        expected = tiny.run(reference, 12)
        assert all(torch.equal(outputs[step], expected[step]) for step in range(6, 12))
        assert tocache.report(model).overruled == 0  # step 6 was full anyway
        # two rows that are left of four are two pictures, and no halves that choose together
        assert tocache.report(model).plan.anatomies[0].shape.halves is None

    def test_samples_of_another_batch_size_do_not_see_the_old_ones_choices(self, tiny, table, by_kind):
        model = tiny.build()
        tocache.enable(model, table(by_kind((0,), self_attention=0, mlp=5), Policy({"influence": 1.0}, 0.25, 3)))
        with tocache.run(model, timesteps=12, cfg=None) as run:
            for step in range(12):
                assert tiny.forward(model, step, rows=(2, 3, 1)[step // 4]).isfinite().all()
                run.step()
        assert tocache.report(model).overruled == 2 * SITES


class TestPasses:
    def test_a_second_pass_that_comes_later_is_computed_first(self, tiny):
        model, plain = tiny.build(), tiny.build()
        tocache.enable(model, tocache.FORA(3))
        with tocache.run(model, timesteps=12, cfg=None) as run:
            for step in range(12):
                tiny.forward(model, step)
                if step == 4:
                    assert torch.equal(tiny.forward(model, step, who=1), tiny.forward(plain, step, who=1))
                elif step > 4:
                    tiny.forward(model, step, who=1)
                run.step()
        report = tocache.report(model)
        assert (report.passes, report.overruled) == (2, SITES)

    def test_a_pass_copied_in_the_first_step_is_computed_when_it_first_runs_and_cached_then(self, tiny, table):
        def fill(fresh, source, anatomy):
            fresh[1:] = 0
            source[:2, 1:] = 0

        model, plain, seconds = tiny.build(), tiny.build(), []
        try:
            tocache.enable(model, table(fill))
            with tocache.run(model, timesteps=9, cfg="two-pass") as run:
                for step in range(9):
                    tiny.forward(model, step)
                    seconds.append(tiny.forward(model, step, who=1))
                    run.step()
        except tocache.PlanError:
            return  # a plan that says so may be refused as well
        computed = [torch.equal(seconds[step], tiny.forward(plain, step, who=1)) for step in range(9)]
        assert computed == [step == 2 for step in range(9)]
        report = tocache.report(model)
        assert report.cache_bytes_peak == report.cache_bytes_planned


class TestErrors:
    def test_a_plan_that_does_not_fit_says_so_at_every_forward(self, tiny):
        model = tiny.build()
        tocache.enable(model, tocache.FORA(3))
        tiny.run(model)
        plan = tocache.report(model).plan
        tocache.enable(model, plan)
        with tocache.run(model, timesteps=12, cfg=None):
            for _ in range(2):
                with pytest.raises(tocache.PlanMismatchError, match="steps: plan 9, here 12"):
                    tiny.forward(model, 0)
        assert len(tiny.run(model, 9)) == 9

    def test_an_exception_inside_a_forward_costs_a_computed_step_and_no_more(self, tiny):
        model, plain = tiny.build(), tiny.build()
        tocache.enable(model, tocache.FORA(3))
        outputs = []
        with tocache.run(model, timesteps=12, cfg=None) as run:
            for step in range(12):
                if step == 7:  # it would have been reused
                    handle = model.transformer_blocks[1].register_forward_pre_hook(lambda *_: 1 / 0)
                    with pytest.raises(ZeroDivisionError):
                        tiny.forward(model, step)
                    handle.remove()
                outputs.append(tiny.forward(model, step))
                run.step()
        computed = [torch.equal(outputs[step], tiny.forward(plain, step)) for step in range(12)]
        assert computed == [step in (0, 2, 5, 7, 8, 11) for step in range(12)]
        assert tocache.report(model).overruled == SITES

    def test_a_few_steps_warned_of_as_an_error_leave_nothing_half_done(self, tiny):
        model, plain = tiny.build(), tiny.build()
        tocache.enable(model, tocache.FORA(3))
        with tocache.run(model, timesteps=4, cfg=None) as run:
            with pytest.raises(tocache.TocacheWarning):  # warnings are errors here
                tiny.forward(model, 0)
            x = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0))
            ff = model.transformer_blocks[0].ff
            assert torch.equal(ff(x), plain.transformer_blocks[0].ff(x))
            for step in range(4):
                output = tiny.forward(model, step)
                run.step()
        assert output.isfinite().all()
        report = tocache.report(model)
        assert (report.steps, report.overruled) == (4, 0)

    def test_a_loop_with_gradients_keeps_no_graph_from_step_to_step(self, tiny, table, by_kind):
        """Cached rows must not hold on to the step that computed them."""
        model = tiny.build().requires_grad_(True)
        policy = Policy({"influence": 1.0}, 0.25, 3)
        tocache.enable(model, table(by_kind((0,), self_attention=0, mlp=5), policy))
        depths = []
        with tocache.run(model, timesteps=9, cfg=None) as run:
            for step in range(9):
                depths.append(_nodes(model(**tiny.inputs(step))[0].grad_fn))
                run.step()
        assert len(set(depths[1:])) == 1


def _nodes(root) -> int:
    """How many operations lie behind a tensor."""
    seen, stack = set(), [root]
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            stack.extend(next_node for next_node, _ in node.next_functions)
    return len(seen)


def test_steps_within_and_without_inference_mode_in_one_run(tiny_of):
    """What an inference_mode made may not be written to outside of it: features, maps and ages alike."""
    tiny = tiny_of("flux")
    outputs = []
    for switched in (False, True):
        model = tiny.build()
        tocache.enable(model, tocache.ToCa(5, 0.3, schedule="constant"))
        with tocache.run(model, timesteps=10, cfg=None) as run:
            for step in range(10):
                with torch.inference_mode(switched and step < 5):
                    output = tiny.forward(model, step)
                run.step()
        outputs.append(output)
    assert torch.equal(*outputs)


def test_a_step_of_the_scheduler_without_a_forward_has_no_seconds(tiny):
    model, records = tiny.build(), []
    tocache.enable(model, tocache.FORA(3))
    # it may announce the tick without a forward, too
    with tocache.watch(model, records.append), tocache.run(model, timesteps=13, cfg=None) as run:
        for step in range(12):
            tiny.forward(model, step)
            run.step()
            if step == 2:
                time.sleep(1.0)
                run.step()
    assert tocache.report(model).steps == len(records[-1].seconds) == 12
    assert max(records[-1].seconds) < 1.0


@pytest.mark.parametrize("family", ["dit", "flux"])
def test_the_hosts_default_dtype_does_not_matter(family, tiny_of):
    outputs = []
    for default in (torch.float32, torch.bfloat16):
        tiny = tiny_of(family)
        model, inputs = tiny.build().to(torch.bfloat16), []
        for step in range(9):
            made = tiny.inputs(step)
            halves = {k: v.bfloat16() if torch.is_tensor(v) and v.is_floating_point() else v for k, v in made.items()}
            inputs.append(halves)
        torch.set_default_dtype(default)
        try:
            tocache.enable(model, tocache.ToCa(3, 0.3))
            with torch.no_grad(), tocache.run(model, timesteps=9, cfg=None) as run:
                for given in inputs:
                    output = model(**given)[0]
                    run.step()
        finally:
            torch.set_default_dtype(torch.float32)
        outputs.append(output)
    torch.testing.assert_close(*outputs, rtol=0.1, atol=0.1)
