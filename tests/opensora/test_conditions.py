"""Frames that are given: where they may be, how they fill the frame, when they are edited."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from tocache.errors import OptionError
from tocache.opensora import FrameCondition, RFlowScheduler
from tocache.opensora.conditions import FrameMask, as_video, place

from .conftest import draw, picture


def test_picture_fills_the_frame() -> None:
    """Twice as wide as the frame: the middle half is seen, scaled."""
    columns = np.zeros((10, 80, 3), dtype=np.uint8)
    columns[:, 20:60] = 255
    video = as_video(PIL.Image.fromarray(columns), 20, 80)
    assert video.shape == (3, 1, 20, 80)
    assert video[:, :, :, 8:72].min() > 0.99


def test_kinds_of_picture_agree() -> None:
    array = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    of_bytes = as_video(array, 16, 24)
    assert (of_bytes.min() >= -1, of_bytes.max() <= 1) == (True, True)
    for kind in (PIL.Image.fromarray(array), array / 255, torch.from_numpy(array).permute(2, 0, 1) / 255):
        assert torch.equal(as_video(kind, 16, 24), of_bytes)
    clip = as_video([array, array], 16, 24)
    assert torch.equal(clip, of_bytes.expand(3, 2, 16, 24))
    for nothing in ([], ["picture.png"]):
        with pytest.raises(OptionError, match="list is not allowed where frames are given; allowed: a picture"):
            as_video(nothing, 16, 24)


@pytest.mark.parametrize(("at", "start"), [(0, 0), (17, 5), (34, 10), (-1, 10), (-3, 0)])
def test_place(at: int, start: int) -> None:
    latents, mask = torch.zeros(2, 4, 15, 2, 2), torch.ones(2, 15)
    place(latents, 1, FrameCondition(None, at=at, edit=0.25), torch.ones(4, 7, 2, 2), mask)
    where = slice(start, start + 7)  # the last chunk has room for 5
    assert latents[1, :, where].min() == 1
    assert latents.sum() == min(7, 15 - start) * 16
    assert (mask[1, where] == 0.25).all()
    assert mask[0].min() == 1


def test_bad_places() -> None:
    with pytest.raises(OptionError, match="at=5 is not allowed; allowed: a multiple of 17, or a negative one"):
        FrameCondition(None, at=5)
    with pytest.raises(OptionError, match=r"edit=1\.0 is not allowed; allowed: from 0 to less than 1"):
        FrameCondition(None, edit=1.0)
    for at in (51, -4):
        with pytest.raises(OptionError, match="is outside of the video; allowed: 0, 17, 34, or -3 to -1"):
            place(
                torch.zeros(1, 4, 15, 1, 1), 0, FrameCondition(None, at=at), torch.ones(4, 1, 1, 1), torch.ones(1, 15)
            )


def test_edited_frames_join_in_when_it_is_their_turn() -> None:
    """Given (0) frames never move; edited (0.5) ones are noised once, at time 500, and move from there on."""
    scheduler = RFlowScheduler()
    scheduler.set_timesteps(4)
    frames = FrameMask(torch.tensor([[1.0, 0.0, 0.5]]), 1000, lambda: torch.full((1, 1, 3, 1, 1), 8.0))
    z = torch.ones(1, 1, 3, 1, 1)
    seen = []
    for time in scheduler.timesteps:
        begun, active = frames.begin(z, time, scheduler.add_noise)
        seen.append((active[0].tolist(), begun.flatten().tolist()))
        z = frames.keep(begun + 1, begun, active)
    assert seen == [
        ([True, False, False], [1, 1, 1]),
        ([True, False, False], [2, 1, 1]),
        ([True, False, True], [3, 1, 4.5]),
        ([True, False, True], [4, 1, 5.5]),
    ]


def test_a_time_above_1000_generates_all_the_same() -> None:
    """The timestep transform may round the first time up; frames from noise must not stand still then."""
    frames = FrameMask(torch.tensor([[1.0, 0.0]]), 1000, lambda: torch.zeros(1))
    _, active = frames.begin(torch.zeros(1, 1, 2, 1, 1), torch.tensor(1000.0001), RFlowScheduler().add_noise)
    assert active.tolist() == [[True, False]]


def test_clip_continues(pipe: Any) -> None:
    """A clip of a whole chunk at the beginning and an edited picture in the last chunk, in one video."""
    clip = [PIL.Image.new("RGB", (48, 32), (10 * i, 0, 255 - 10 * i)) for i in range(17)]
    conditions = [FrameCondition(clip), FrameCondition(clip[3], at=-1, edit=0.4)]
    options: dict[str, Any] = {
        **{"height": 32, "width": 48, "num_frames": 34, "num_inference_steps": 3, "output_type": "latent"},
        **{"clean_caption": False, "aesthetic_score": None, "conditions": conditions},
    }
    masks: list[Any] = []
    pipe.transformer.register_forward_pre_hook(
        lambda _module, _args, kwargs: masks.append(kwargs["frame_mask"][0].tolist()), with_kwargs=True
    )
    first, second = (pipe("sea", generator=torch.Generator().manual_seed(0), **options).frames for _ in range(2))
    assert torch.equal(first, second)
    assert [mask[:5] for mask in masks[:3]] == [[False] * 5] * 3
    assert masks[0][5:] == [False, True, True, True, True]
    assert masks[2][5:] == [True] * 5


class TestFirstFrame:
    def test_is_kept(self, pipe: Any) -> None:
        """The picture's latent is in the result as it was encoded, and its first frame shows it decoded."""
        latents = draw(pipe, image=picture(), output_type="latent")
        generator = torch.Generator().manual_seed(0)
        torch.randn(latents.shape, generator=generator)  # the noise is drawn first
        with torch.no_grad():
            encoded = pipe.vae.encode(as_video(picture(), 32, 48)[None], generator=generator)
        assert torch.equal(latents[:, :, :1], encoded)
        assert not torch.allclose(latents, draw(pipe, output_type="latent"))

    def test_masks_the_first_latent_frame(self, pipe: Any) -> None:
        masks: list[Any] = []
        pipe.transformer.register_forward_pre_hook(
            lambda _module, _args, kwargs: masks.append(kwargs["frame_mask"]), with_kwargs=True
        )
        draw(pipe, image=picture())
        assert all(mask.tolist() == [[False, *[True] * 5]] * 2 for mask in masks)
        masks.clear()
        draw(pipe)
        assert masks == [None] * 3

    def test_one_for_each_prompt(self, pipe: Any) -> None:
        pictures = [picture(), PIL.Image.new("RGB", (48, 32), "red")]
        together = draw(pipe, ["sea", "two"], image=pictures, seed=[1, 2])
        alone = [
            draw(pipe, prompt, image=one, seed=1 + i)
            for i, (prompt, one) in enumerate(zip(["sea", "two"], pictures, strict=True))
        ]
        torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)
        with pytest.raises(OptionError, match="image holds 3 pictures; allowed: one, or one for each of the 2 prompts"):
            draw(pipe, ["sea", "two"], image=[picture()] * 3)
