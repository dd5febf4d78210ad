"""What is special about Open-Sora under the cache: given frames, times known before the run, its own schedule."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tocache
from tocache.demo import random_video_pipeline
from tocache.methods import TAP, DeltaDiT, Early
from tocache.models.registry import family_of
from tocache.opensora import RFlowScheduler
from tocache.opensora.block import modulated
from tocache.plan import ALL, Pass, Plan, Policy

SIZE = {"height": 64, "width": 64, "num_frames": 34}
STEPS = 9


@pytest.fixture
def pipe() -> Any:
    pipe = random_video_pipeline(depth=2)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: Any, **options: Any) -> torch.Tensor:
    """Latents (1, channels, 10 frames, 8, 8)."""
    arguments: dict[str, Any] = {"num_inference_steps": STEPS, "clean_caption": False, "output_type": "latent"}
    generator = torch.Generator().manual_seed(0)
    return torch.as_tensor(pipe("a red circle", generator=generator, **SIZE | arguments | options).frames)


@pytest.fixture
def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("method", [tocache.ToCa(3, 0.3), tocache.FORA(2), tocache.PAB()], ids=lambda m: m.name)
def test_a_given_frame_is_kept_under_the_cache(pipe: Any, picture: Image.Image, method: tocache.Method) -> None:
    plain = draw(pipe, image=picture)
    tocache.enable(pipe, method)
    cached = draw(pipe, image=picture)
    assert tocache.report(pipe).overruled == 0
    assert torch.equal(cached[:, :, 0], plain[:, :, 0])
    assert not torch.equal(cached[:, :, 1:], plain[:, :, 1:])


@pytest.mark.parametrize("method", [Early(2), DeltaDiT(2, turn=0.0), DeltaDiT(2, turn=1.0), TAP(2)], ids=str)
def test_spans_of_pairs_of_blocks_give_what_they_gave(method: tocache.Method) -> None:
    """Blocks of the two stacks take turns, so what one stack's add is nothing by itself."""
    pipe = random_video_pipeline(depth=4)
    inputs: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    handle = pipe.transformer.register_forward_pre_hook(lambda *seen: inputs.append(seen[1:]), with_kwargs=True)
    draw(pipe)
    handle.remove()
    args, kwargs = inputs[3]
    plain = pipe.transformer(*args, **kwargs)[0].detach()
    tocache.enable(pipe.transformer, method)
    with torch.no_grad(), tocache.run(pipe.transformer, timesteps=STEPS, cfg=None) as run:
        for _ in range(STEPS):
            torch.testing.assert_close(pipe.transformer(*args, **kwargs)[0], plain, rtol=1e-4, atol=1e-5)
            run.step()
    assert tocache.report(pipe.transformer).speedup > 1.2


@pytest.mark.parametrize("given", [False, True], ids=["text", "image"])
def test_all_tokens_chosen_one_by_one_are_all_tokens(pipe: Any, picture: Image.Image, given: bool) -> None:
    """With given frames the published code differs: it gates the MLP's input there (docs/method.md, quirks)."""
    image = picture if given else None
    plain = draw(pipe, image=image)
    tocache.enable(pipe, tocache.Uncached())
    with tocache.trace(pipe) as trace:
        draw(pipe, image=image)
    fresh = trace.plan.fresh.copy()
    for i, site in enumerate(trace.plan.sites):
        if site.kind == "mlp":
            fresh[1:, 0, i] = trace.plan.anatomies[0].tokens(site)
    plan = Plan(trace.plan.anatomies, fresh, Policy(scores={"norm": 1.0}), "every token chosen")
    tocache.enable(pipe, plan)
    with tocache.trace(pipe) as chosen:
        cached = draw(pipe, image=image)
    assert chosen.choices
    torch.testing.assert_close(cached, plain, rtol=1e-4, atol=1e-4)


def test_norms_see_the_fresh_tokens_alone_unless_frames_are_given(pipe: Any, picture: Image.Image) -> None:
    seen: list[dict[str, int]] = [{}]  # by step: the tokens that each module is called with

    def note(name: str, module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        seen[-1][name] = arguments[0].shape[1]

    for name in ("norm1", "attn", "norm2", "mlp"):
        pipe.transformer.temporal_blocks[1].get_submodule(name).register_forward_pre_hook(partial(note, name))
    tocache.enable(pipe, tocache.ToCa(3, 0.3))
    with tocache.watch(pipe, lambda record: seen.append({})), tocache.trace(pipe) as trace:
        draw(pipe)
        draw(pipe, image=picture)
    tokens = trace.plan.anatomies[0].shape.tokens["image"]
    fresh = int(trace.plan.fresh[4, 0, trace.plan.anatomies[0].index["temporal_blocks.1.mlp"]])
    assert 1 < fresh < tokens
    assert seen[3] == {"norm1": tokens, "attn": tokens, "norm2": tokens, "mlp": tokens}
    assert seen[4] == {"norm1": 1, "norm2": fresh, "mlp": fresh}
    assert seen[STEPS + 3] == {"attn": tokens, "mlp": tokens}
    assert seen[STEPS + 4] == {"mlp": fresh}


def test_videos_with_and_without_given_frames_take_turns(pipe: Any, picture: Image.Image) -> None:
    tocache.enable(pipe, tocache.ToCa(3, 0.3))
    text, image = draw(pipe), draw(pipe, image=picture)
    assert torch.equal(draw(pipe), text)
    assert torch.equal(draw(pipe, image=picture), image)


@pytest.mark.parametrize("call", [32, 33], ids=["attention", "mlp"])
def test_what_a_norm_left_behind_is_not_taken_up_where_frames_are_given(
    pipe: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    tocache.enable(pipe, tocache.ToCa(3, 0.3))
    before, calls = draw(pipe, image=picture), 0

    def fail(*arguments: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > call:
            raise MemoryError("no memory left")  # in step 4, after a norm and before the module that it feeds
        return modulated(*arguments)

    monkeypatch.setattr("tocache.opensora.block.modulated", fail)
    with pytest.raises(MemoryError):
        draw(pipe)
    monkeypatch.undo()
    assert torch.equal(draw(pipe, image=picture), before)


@pytest.mark.parametrize("frames", [17, 51, 102])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (480, 848)])
def test_the_times_are_those_of_the_scheduler(pipe: Any, frames: int, height: int, width: int) -> None:
    scheduler = RFlowScheduler()
    scheduler.set_timesteps(30, height=height, width=width, num_frames=frames)
    grid = (frames // 17 * 5, height // 16, width // 16)
    times = family_of(pipe.transformer).timesteps(Pass(2, {"image": int(np.prod(grid))}, grid), 30)
    assert np.allclose(times, scheduler.timesteps.numpy(), rtol=1e-5)


@pytest.mark.parametrize("base", [512 * 512, 64 * 64])
def test_the_window_of_pab_lies_in_the_times_of_the_run(pipe: Any, base: int) -> None:
    tocache.enable(pipe, tocache.PAB())
    for pixels in (32 * 32, base):  # a plan for the same shape under another scheduler is another plan
        pipe.scheduler = RFlowScheduler(base_resolution=pixels)
        with tocache.trace(pipe) as trace:
            draw(pipe, num_inference_steps=30)
    intervals = {"self-attention": 2, "temporal-attention": 4, "cross-attention": 6}
    steps = np.arange(30)
    times = pipe.scheduler.timesteps.numpy()
    assert len(times) == 30
    for i, site in enumerate(trace.plan.sites):
        reused = np.zeros(30, dtype=bool)
        if site.kind in intervals:
            reused = (times > 450) & (times < 930) & (steps % intervals[site.kind] != 0)
        assert np.array_equal(trace.plan.fresh[:, 0, i], np.where(reused, 0, ALL)), site.name


def test_each_kind_has_its_cycle(pipe: Any) -> None:
    tocache.enable(pipe, tocache.ToCa())
    with tocache.trace(pipe) as trace:
        draw(pipe, num_inference_steps=30)
    cycles = {"self-attention": 3, "temporal-attention": 3, "cross-attention": 6, "mlp": 3}
    for i, site in enumerate(trace.plan.sites):
        full = np.flatnonzero(trace.plan.fresh[:, 0, i] == ALL).tolist()
        assert full == [s for s in range(30) if s <= 2 or s % cycles[site.kind] == 0], site.name
