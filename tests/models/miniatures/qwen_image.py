"""Qwen-Image, with guidance in two passes whose texts differ in length."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers

from tocache.demo.random_text import TEXT_DIM

from ...conftest import Case
from .parts import TEXTS, miniature
from .pictures import LATENTS
from .qwen_text import tiny_qwen_encoder, tiny_qwen_tokenizer

# the first line of every prompt, which the pipeline cuts off again
FRAME = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n"
)


def qwen_vae() -> Any:
    sizes = {"base_dim": 4, "z_dim": LATENTS, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    means = {"latents_mean": [0.0] * LATENTS, "latents_std": [1.0] * LATENTS}
    return diffusers.AutoencoderKLQwenImage(**sizes, **means, temperal_downsample=[False, True, True]).eval()


@miniature
def qwen_image(**config: Any) -> Any:
    sizes = {"num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2, "axes_dims_rope": (4, 2, 2)}
    sizes |= {"in_channels": 4 * LATENTS, "out_channels": LATENTS, "joint_attention_dim": TEXT_DIM}
    tokenizer = tiny_qwen_tokenizer(FRAME, 34)
    return diffusers.QwenImagePipeline(
        tokenizer=tokenizer,
        text_encoder=tiny_qwen_encoder(tokenizer),
        vae=qwen_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=diffusers.QwenImageTransformer2DModel(**sizes | config),
    )


# before it masked the padding of shorter texts, diffusers itself drew a picture differently beside a longer text
MASKS = "txt_seq_lens" not in inspect.signature(diffusers.QwenImageTransformer2DModel.forward).parameters
# of another length than the prompts, so that the second pass is not as the engine guesses it from the first
NEGATIVE = "a grey cloud over a green lake" if MASKS else "a grey cloud"
CALL = {"output_type": "latent", "height": 128, "width": 128, "negative_prompt": NEGATIVE}
PROMPTS = TEXTS if MASKS else ("a red circle", "a blue cloud", "a green lake")
CASES = (Case("qwen-image", qwen_image, PROMPTS, {"true_cfg_scale": 1.0}, {}, CALL, flow=True),)
