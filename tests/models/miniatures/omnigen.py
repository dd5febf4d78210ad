"""OmniGen, from texts alone, with guidance, which it always has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import diffusers
import torch

from tocache.demo.random_text import tiny_t5_tokenizer

from ...conftest import Case
from .parts import miniature
from .pictures import LATENTS, picture_vae


def _without_torchvision() -> None:
    """Lets the pipeline be made where torchvision is missing: it needs it for pictures in its texts alone."""
    from diffusers.pipelines.omnigen import pipeline_omnigen, processor_omnigen

    if not hasattr(processor_omnigen, "transforms"):
        names = ("Compose", "Lambda", "ToTensor", "Normalize")
        processor_omnigen.transforms = SimpleNamespace(**dict.fromkeys(names, lambda *_, **__: None))
        pipeline_omnigen.OmniGenMultiModalProcessor = processor_omnigen.OmniGenMultiModalProcessor


def omnigen(seed: int = 0, *, dtype: torch.dtype = torch.float32, **config: Any) -> Any:
    """In float64 its mask, which is float32, would overflow."""
    return _omnigen(seed, dtype=torch.float32 if dtype == torch.float64 else dtype, **config)


@miniature
def _omnigen(**config: Any) -> Any:
    _without_torchvision()
    sizes: dict[str, Any] = {"num_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2}
    sizes |= {
        "intermediate_size": 32,
        "in_channels": LATENTS,
        "pad_token_id": 0,
        "time_step_dim": 16,
        "pos_embed_max_size": 16,
    }
    sizes |= {"rope_scaling": {"short_factor": [1.0] * 4, "long_factor": [1.0] * 4}}
    tokenizer = tiny_t5_tokenizer()
    return diffusers.OmniGenPipeline(
        tokenizer=tokenizer,
        vae=picture_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True, num_train_timesteps=1),
        transformer=diffusers.OmniGenTransformer2DModel(**sizes | {"vocab_size": len(tokenizer)} | config),
    )


# of one length: the model gives all rows the positions of the first, so that a picture depends on its neighbours
PROMPTS = ("a red circle", "a red square", "a red planet")
CALL = {"output_type": "latent", "height": 128, "width": 128}
SPECIAL: dict[str, Any] = {"flow": True, "rows": 2, "close": 1e-4, "slow": True, "needs": ("OmniGenPipeline",)}
CASES = (Case("omnigen", omnigen, PROMPTS, {}, {}, CALL, **SPECIAL),)
