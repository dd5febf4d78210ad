"""CogView3+."""

from __future__ import annotations

from typing import Any

import diffusers

from tocache.demo.random_text import TEXT_DIM

from ...conftest import Case
from .parts import TEXTS, miniature, t5
from .pictures import LATENTS, picture_vae


@miniature
def cogview3(**config: Any) -> Any:
    sizes = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8, "sample_size": 16, "patch_size": 2}
    sizes |= {"in_channels": LATENTS, "out_channels": LATENTS, "text_embed_dim": TEXT_DIM, "time_embed_dim": 8}
    return diffusers.CogView3PlusPipeline(
        **t5(),
        vae=picture_vae(),
        scheduler=diffusers.CogVideoXDDIMScheduler(),
        transformer=diffusers.CogView3PlusTransformer2DModel(
            **sizes | {"condition_dim": 2, "pos_embed_max_size": 32} | config
        ),
    )


CALL: dict[str, Any] = {"output_type": "latent", "height": 128, "width": 128, "max_sequence_length": 16}
CASES = (Case("cogview3", cogview3, TEXTS, {"guidance_scale": 1.0}, {}, CALL, flow=True, slow=True),)
