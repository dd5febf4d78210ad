"""Kandinsky 5.0, for videos, with guidance in two passes."""

from __future__ import annotations

from typing import Any

import diffusers
import torch

from tocache.demo.random_text import TEXT_DIM, tiny_clip_encoder, tiny_clip_tokenizer

from ...conftest import Case
from .hunyuan_video import tiny_video_vae
from .parts import miniature
from .qwen_text import tiny_qwen_encoder, tiny_qwen_tokenizer

# the instruction before every prompt, which the pipeline cuts off again
FRAME = (
    "<|im_start|>system\nYou are a prompt engineer. Describe the video in detail.\n"
    "Describe how the camera moves or shakes, describe the zoom and view angle, whether it follows the objects.\n"
    "Describe the location of the video, main characters or objects and their action.\n"
    "Describe the dynamism of the video and presented actions.\n"
    "Name the visual style of the video: whether it is a professional footage, user generated content, some kind of "
    "animation, video game or scren content.\n"
    "Describe the visual effects, postprocessing and transitions if they are presented in the video.\n"
    "Pay attention to the order of key actions shown in the scene.<|im_end|>\n<|im_start|>user\n"
)


def kandinsky5(seed: int = 0, *, dtype: torch.dtype = torch.float32, **config: Any) -> Any:
    """What the model keeps in float32 stays so, as when it is loaded, and it does not know float64."""
    pipe = _kandinsky5(seed, dtype=torch.float32 if dtype == torch.float64 else dtype, **config)
    for name, module in pipe.transformer.named_modules():
        if any(kept in name for kept in pipe.transformer._keep_in_fp32_modules):
            module.float()
    return pipe


@miniature
def _kandinsky5(**config: Any) -> Any:
    sizes = {"num_text_blocks": 2, "num_visual_blocks": 2, "model_dim": 16, "ff_dim": 32, "time_dim": 8}
    sizes |= {"in_visual_dim": 4, "out_visual_dim": 4, "in_text_dim": TEXT_DIM, "in_text_dim2": TEXT_DIM}
    tokenizer, tokenizer_2 = tiny_qwen_tokenizer(FRAME, 128), tiny_clip_tokenizer()
    return diffusers.Kandinsky5T2VPipeline(
        tokenizer=tokenizer,
        text_encoder=tiny_qwen_encoder(tokenizer),
        tokenizer_2=tokenizer_2,
        text_encoder_2=tiny_clip_encoder(tokenizer_2),
        vae=tiny_video_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=5.0),
        transformer=diffusers.Kandinsky5Transformer3DModel(**sizes | {"axes_dims": (4, 2, 2)} | config),
    )


# of one length: the pipeline pads shorter texts and masks nothing, so that a video depends on its neighbours
PROMPTS = ("a red circle", "a blue cloud", "a green lake")
CALL: dict[str, Any] = {"output_type": "latent", "height": 64, "width": 64, "num_frames": 5, "max_sequence_length": 48}
# it rotates queries and keys in bfloat16, where a last bit may fall either way
SPECIAL: dict[str, Any] = {"close": 0.1, "ignored": ("Mismatch dtype between input and weight",)}
SPECIAL |= {"resized": {"height": 96}, "output": "frames", "flow": True, "slow": True}
CASES = (
    Case(
        "kandinsky5",
        kandinsky5,
        PROMPTS,
        {"guidance_scale": 1.0},
        {},
        CALL | {"negative_prompt": "blurred"},
        needs=("Kandinsky5T2VPipeline",),
        **SPECIAL,
    ),
)
