"""Taking over the calls of one object: nothing else about it may change, and nothing may stay behind."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import ModelHook as AccelerateHook
from accelerate.hooks import add_hook_to_module, remove_hook_from_module
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.hooks import HookRegistry, ModelHook

import tocache
from tocache.engine.intercept import intercept, owner_of, plain_class, release

KINDS = dict.fromkeys(("self_attention", "cross_attention", "mlp", "parallel"), 0)


class Counter:
    """A plain object with a method that counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, by: int = 1) -> int:
        """Counts."""
        self.count += by
        return self.count


def doubled(call, args, kwargs):
    return 2 * call(*args, **kwargs)


class TestIntercept:
    def test_one_instance_is_taken_over_and_others_are_not(self):
        one, other = Counter(), Counter()
        intercept(one, {"__call__": doubled})
        assert (one(3), other(3)) == (6, 3)
        intercept(other, {"__call__": lambda call, args, kwargs: -call(*args, **kwargs)})
        assert (one(), other()) == (8, -4)
        release(other)
        assert (one(), other()) == (10, 5)

    def test_class_name_and_isinstance_stay(self):
        one = Counter()
        intercept(one, {"__call__": doubled}, owner="me")
        assert isinstance(one, Counter)
        assert (type(one).__name__, type(one).__qualname__, type(one).__module__) == ("Counter", "Counter", __name__)
        assert type(one).__call__.__doc__ == "Counts."
        assert inspect.signature(one) == inspect.signature(Counter())
        assert plain_class(one) is Counter
        assert owner_of(one) == "me"

    def test_released_it_is_as_before(self):
        one = Counter()
        before = dict(vars(one))
        intercept(one, {"__call__": doubled})
        release(one)
        release(one)
        assert type(one) is Counter
        assert vars(one) == before
        assert owner_of(one) is None

    def test_taken_over_twice_only_the_second_counts(self):
        one = Counter()
        intercept(one, {"__call__": doubled})
        intercept(one, {"__call__": doubled})
        assert one() == 2
        release(one)
        assert type(one) is Counter

    def test_a_bound_method_that_outlives_its_release_calls_the_original(self):
        one = Counter()
        intercept(one, {"__call__": doubled})
        bound = one.__call__
        assert bound() == 2
        release(one)
        assert bound() == 2  # the second count, not doubled

    @pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
    def test_copies_are_plain_and_on_their_own(self, again):
        one = Counter()
        one()
        intercept(one, {"__call__": doubled})
        twin = again(one)
        assert type(twin) is Counter
        assert vars(twin) == {"count": 1}
        assert twin() == 2
        assert one() == 4

    @pytest.mark.parametrize("scheduler", [DDIMScheduler, FlowMatchEulerDiscreteScheduler])
    def test_signatures_of_a_scheduler_can_still_be_inspected(self, scheduler):
        """diffusers' retrieve_timesteps looks for `timesteps` and `sigmas` among the parameters."""
        plain, taken = scheduler(), scheduler()
        intercept(taken, {"set_timesteps": doubled, "step": doubled})
        for name in ("set_timesteps", "step"):
            assert inspect.signature(getattr(taken, name)) == inspect.signature(getattr(plain, name))
        assert type(taken).from_config(taken.config).config == plain.config


class TestModels:
    def test_an_enabled_model_looks_the_same_from_outside(self, tiny):
        model = tiny.build()
        keys, names = list(model.state_dict()), [name for name, _ in model.named_modules()]
        classes, text = [type(m).__name__ for m in model.modules()], repr(model)
        tocache.enable(model, tocache.FORA(3))
        assert list(model.state_dict()) == keys
        assert [name for name, _ in model.named_modules()] == names
        assert [type(m).__name__ for m in model.modules()] == classes
        assert repr(model) == text
        assert isinstance(model.transformer_blocks[0], plain_class(model.transformer_blocks[0]))
        tocache.disable(model)
        assert not [m for m in model.modules() if "_tocache" in vars(m) or hasattr(type(m), "_tocache_base")]

    @pytest.mark.parametrize("hooked_first", [True, False])
    def test_accelerates_hooks_run_inside_and_come_off_cleanly(self, tiny, table, by_kind, hooked_first):
        method, plain = table(by_kind(**KINDS)), tiny.build()
        expected = tiny.forward(plain, 8)
        tocache.enable(plain, method)
        cached = tiny.run(plain)

        class Note(AccelerateHook):
            def pre_forward(self, module, *args, **kwargs):
                calls.append(module)
                return args, kwargs

        model, calls = tiny.build(), []
        hooked = [model, model.transformer_blocks[0], model.transformer_blocks[0].ff]
        if not hooked_first:
            tocache.enable(model, method)
        for module in hooked:
            add_hook_to_module(module, Note())
        if hooked_first:
            tocache.enable(model, method)
        assert all(torch.equal(a, b) for a, b in zip(tiny.run(model), cached, strict=True))
        assert [calls.count(module) for module in hooked] == [9, 9, 2]  # the MLP ran in its two full steps only
        if hooked_first:
            tocache.disable(model)
        for module in hooked:
            remove_hook_from_module(module)
        tocache.disable(model)
        assert torch.equal(tiny.forward(model, 8), expected)

    @pytest.mark.filterwarnings("ignore::FutureWarning")
    @pytest.mark.parametrize("hooked_first", [True, False])
    def test_offloaded_weights_draw_the_same(self, tiny, table, by_kind, hooked_first):
        method, plain, model = table(by_kind(**KINDS)), tiny.build(), tiny.build()
        tocache.enable(plain, method)
        cached = tiny.run(plain)
        if not hooked_first:
            tocache.enable(model, method)
        cpu_offload(model, execution_device=torch.device("cpu"))
        if hooked_first:
            tocache.enable(model, method)
        assert all(torch.equal(a, b) for a, b in zip(tiny.run(model), cached, strict=True))
        report = tocache.report(model)
        assert report.overruled == 0
        assert report.cache_bytes_peak == report.cache_bytes_planned

    @pytest.mark.parametrize("hooked_first", [True, False])
    def test_diffusers_hooks_run_inside(self, tiny, table, by_kind, hooked_first):
        class Note(ModelHook):
            def pre_forward(self, module, *args, **kwargs):
                calls.append(module)
                return args, kwargs

        method, model, calls = table(by_kind(**KINDS)), tiny.build(), []
        plain = tiny.forward(model, 8)
        if not hooked_first:
            tocache.enable(model, method)
        ff = model.transformer_blocks[0].ff
        HookRegistry.check_if_exists_or_initialize(ff).register_hook(Note(), "note")
        if hooked_first:
            tocache.enable(model, method)
        outputs = tiny.run(model)
        assert len(calls) == 2
        assert not torch.equal(outputs[8], plain)
        tocache.disable(model)
        ff._diffusers_hook.remove_hook("note")
        assert torch.equal(tiny.forward(model, 8), plain)

    def test_a_module_put_in_the_place_of_another_is_taken_over_at_the_next_run(self, tiny, table, by_kind):
        """As loading a LoRA does: the old module goes on, inside a new one."""

        class Around(torch.nn.Module):
            def __init__(self, base: torch.nn.Module) -> None:
                super().__init__()
                self.base = base
                self.calls = 0

            def forward(self, *args, **kwargs):
                self.calls += 1
                return self.base(*args, **kwargs)

            def __getattr__(self, name):
                try:
                    return super().__getattr__(name)
                except AttributeError:
                    return getattr(super().__getattr__("base"), name)

        model = tiny.build()
        tocache.enable(model, table(by_kind(**KINDS)))
        before = tiny.run(model)
        block = model.transformer_blocks[1]
        old, block.ff = block.ff, Around(block.ff)
        after = tiny.run(model)
        assert block.ff.calls == 2
        assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
        assert "_tocache" not in vars(old)
        new, block.ff = block.ff, old
        assert all(torch.equal(a, b) for a, b in zip(tiny.run(model), before, strict=True))
        assert "_tocache" not in vars(new)
        tocache.disable(model)
        assert not [m for m in [*model.modules(), new] if "_tocache" in vars(m)]

    def test_weights_changed_while_enabled_are_used(self, tiny):
        model, other = tiny.build(0), tiny.build(1)
        expected = tiny.forward(other, 2)
        tocache.enable(model, tocache.Uncached())
        model.load_state_dict(other.state_dict())
        assert torch.equal(tiny.run(model)[2], expected)
