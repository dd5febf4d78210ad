"""Peers as the packages have them: what they change, and that nothing of it stays."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec

import pytest
import torch
from packaging.version import Version

from tocache.errors import OptionError, UnknownNameError
from tocache.evaluation.contenders import PEER, STEPS
from tocache.evaluation.flops import counted
from tocache.evaluation.peers import BUILT_IN, PEERS, parse_peers

COUNT = 10
OLD = Version(version("diffusers")) < Version("0.42")
needs_caches = pytest.mark.skipif(OLD, reason="diffusers' caches are as they are used here from 0.42 on")


def test_fewer_steps_always_take_part():
    assert parse_peers("none") == list(BUILT_IN)
    assert [peer.name for peer in parse_peers("first-block,unipc")] == [*(p.name for p in BUILT_IN), "first-block"]
    assert parse_peers("all") == list(PEERS.values())
    with pytest.raises(UnknownNameError, match="did you mean 'cache-dit'"):
        parse_peers("cachedit")


def draw(case, pipe):
    return case.draw(pipe, num_inference_steps=COUNT)


def state(pipe):
    """What a peer could leave behind: attributes and order of modules, the scheduler, the class of the pipeline."""
    modules = {name: (sorted(vars(m)), list(m._modules)) for name, m in pipe.transformer.named_modules()}
    return modules, pipe.scheduler, type(pipe)


@pytest.fixture
def pipe(case):
    if case.name not in ("dit", "pixart"):
        pytest.skip("small and quick enough for all peers: DiT and PixArt")
    return case.make()


@needs_caches
@pytest.mark.parametrize("name", ["first-block", "mag-cache", "diffusers-taylorseer-layers", "diffusers-pab"])
def test_diffusers_caches_save_flops_and_leave_nothing(case, pipe, name):
    plain = draw(case, pipe)
    before = state(pipe)
    *_, strongest = PEERS[name].settings(pipe, COUNT, lambda: draw(case, pipe))
    assert strongest.kind == PEER
    with counted(pipe.transformer) as uncached:
        draw(case, pipe)
    drawn = []
    for _ in range(2):  # no state goes from one picture to the next
        with strongest.use(pipe), counted(pipe.transformer) as cached:
            drawn.append(draw(case, pipe))
    assert cached.flops < 0.9 * uncached.flops
    assert torch.equal(*drawn)
    assert state(pipe) == before
    assert torch.equal(draw(case, pipe), plain)


@needs_caches
def test_taylorseers_own_patterns_match_nothing_here(case, pipe):
    *_, strongest = PEERS["diffusers-taylorseer"].settings(pipe, COUNT, lambda: None)
    with pytest.raises(ValueError, match=r"no module of .* matches"), strongest.use(pipe):
        draw(case, pipe)


@pytest.mark.skipif(find_spec("cache_dit") is None, reason="needs the extra peers")
@pytest.mark.parametrize("name", ["cache-dit", "cache-dit-taylor", "cache-dit-mask"])
def test_cache_dit_saves_flops_and_is_switched_off(case, pipe, name, monkeypatch):
    monkeypatch.setenv("CACHE_DIT_LOG_LEVEL", "error")
    plain = draw(case, pipe)
    *_, strongest = PEERS[name].settings(pipe, COUNT, lambda: draw(case, pipe))
    with counted(pipe.transformer) as uncached:
        draw(case, pipe)
    with strongest.use(pipe), counted(pipe.transformer) as cached:
        draw(case, pipe)
    assert cached.flops < 0.9 * uncached.flops
    assert torch.equal(draw(case, pipe), plain)


@pytest.mark.parametrize("name", ["fewer-steps", "dpm-solver", "unipc"])
def test_fewer_steps_are_costed_by_their_number(case, pipe, name):
    settings = PEERS[name].settings(pipe, COUNT, lambda: None)
    half = next(one for one in settings if one.arguments["num_inference_steps"] == COUNT // 2)
    assert (half.kind, half.ratio) == (STEPS, 2.0)
    own = pipe.scheduler
    with counted(pipe.transformer) as uncached:
        draw(case, pipe)
    with half.use(pipe), counted(pipe.transformer) as fewer:
        assert (pipe.scheduler is own) == (name == "fewer-steps")
        drawn = case.draw(pipe, **half.arguments)
    assert uncached.flops / fewer.flops == pytest.approx(2)
    assert bool(torch.isfinite(drawn).all())
    assert pipe.scheduler is own


@pytest.mark.skipif(find_spec("cache_dit") is None, reason="needs the extra peers")
def test_nothing_of_cache_dit_is_left_for_the_next_peer(case, monkeypatch):
    """It leaves its own `forward` on FLUX's transformer, and the stacks of blocks in another order."""
    if case.name != "flux":
        pytest.skip("one family will do")
    monkeypatch.setenv("CACHE_DIT_LOG_LEVEL", "error")
    pipe = case.make()
    before = state(pipe)
    for name in ("cache-dit", "first-block"):
        *_, strongest = PEERS[name].settings(pipe, COUNT, lambda: None)
        with strongest.use(pipe):
            assert bool(torch.isfinite(draw(case, pipe)).all())
        assert state(pipe) == before


def test_a_package_that_is_too_old_is_named_with_what_is_needed():
    with pytest.raises(OptionError, match=r"first-block needs diffusers 99\.0 or newer; here is \d"):
        replace(PEERS["first-block"], diffusers="99.0").check()
    PEERS["fewer-steps"].check()
