"""What a call of the pipeline refuses, and what it says is allowed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tocache.errors import OptionError
from tocache.opensora import FrameCondition

from .conftest import draw, picture


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"height": None, "width": None, "resolution": "8k"},
            "resolution='8k' is not allowed; allowed: 144p, 240p",
        ),
        ({"height": None, "width": None, "aspect_ratio": "1:9"}, "aspect_ratio='1:9' is not allowed; allowed: 3:8"),
        ({"height": None}, "height=None is not allowed; allowed: an integer >= 16, with the other side"),
        ({"num_frames": "3s"}, "num_frames='3s' is not allowed; allowed: 2s, 4s, 8s, 16s, or a number"),
        ({"num_frames": 0}, "num_frames=0 is not allowed"),
        ({"output_type": "gif"}, "output_type='gif' is not allowed; allowed: pil, np, pt, latent"),
        ({"num_inference_steps": 0}, "num_inference_steps=0 is not allowed"),
        (
            {"latents": torch.zeros(1, 4, 5, 4, 6)},
            r"latents have shape \(1, 4, 5, 4, 6\); expected \(1, 4, 6, 4, 6\)",
        ),
        ({"prompt_embeds": torch.zeros(1, 2, 32)}, "give either prompt or prompt_embeds, and not both"),
        ({"prompt_attention_mask": torch.ones(1, 2)}, "given together, or neither"),
        (
            {"generator": [torch.Generator()] * 2},
            "generator holds 2; allowed: one, or one for each of the 1 videos",
        ),
        ({"num_videos_per_prompt": 0}, "num_videos_per_prompt=0 is not allowed; allowed: an integer >= 1"),
        ({"fps": 0}, "fps=0 is not allowed; allowed: a number above 0"),
        ({"guidance_scale": float("nan")}, "guidance_scale=nan is not allowed; allowed: a number"),
        ({"image": "first.png"}, "str is not allowed where frames are given; allowed: a picture or a sequence"),
        ({"conditions": [FrameCondition([])]}, "list is not allowed where frames are given"),
        ({"conditions": [FrameCondition(picture(), at=34)]}, "at=34 is outside of the video; allowed: 0, 17, or"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, r"\['noise'\] are not allowed; allowed: latents"),
    ],
)
def test_is_named_with_what_is_allowed(pipe: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        draw(pipe, **options)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (None, "give either prompt or prompt_embeds"),
        ([], r"prompt=\[\] is not allowed; allowed: a string, or a list of at least one"),
        (7, "prompt=7 is not allowed"),
        (["sea", 7], r"prompt=\['sea', 7\] is not allowed"),
    ],
)
def test_prompt(pipe: Any, prompt: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        draw(pipe, prompt)


@pytest.mark.parametrize(
    ("embeds", "mask", "message"),
    [
        ((1, 25, 32), (1, 25), r"has shape \(1, 25, 32\); allowed: \(prompts, 1 to 24 tokens, 32\)"),
        ((1, 5, 16), (1, 5), r"prompt_embeds has shape \(1, 5, 16\); allowed"),
        ((5, 32), (5,), r"prompt_embeds has shape \(5, 32\); allowed"),
        ((2, 5, 32), (1, 5), r"prompt_attention_mask has shape \(1, 5\); expected \(2, 5\)"),
    ],
)
def test_embeddings(pipe: Any, embeds: tuple[int, ...], mask: tuple[int, ...], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        draw(pipe, None, prompt_embeds=torch.zeros(embeds), prompt_attention_mask=torch.ones(mask))


def test_leaves_the_pipeline_as_it_was(pipe: Any) -> None:
    expected = draw(pipe)
    for wrong in ({"output_type": "gif"}, {"num_frames": "3s"}, {"num_inference_steps": 0}, {"image": picture}):
        with pytest.raises(OptionError):
            draw(pipe, **wrong)
    assert torch.equal(draw(pipe), expected)
