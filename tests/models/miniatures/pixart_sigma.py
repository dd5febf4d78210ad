"""PixArt-Σ: PixArt-α's transformer in a pipeline of its own."""

from __future__ import annotations

from typing import Any

import diffusers

from tocache.demo.random_text import TEXT_DIM

from ...conftest import Case
from .parts import TEXTS, miniature, t5
from .pictures import LATENTS, picture_vae


@miniature
def pixart_sigma(**config: Any) -> Any:
    sizes = {"num_layers": 3, "num_attention_heads": 2, "attention_head_dim": 8, "cross_attention_dim": 16}
    sizes |= {"in_channels": LATENTS, "out_channels": 2 * LATENTS, "sample_size": 16, "caption_channels": TEXT_DIM}
    return diffusers.PixArtSigmaPipeline(
        **t5(),
        vae=picture_vae(),
        scheduler=diffusers.DPMSolverMultistepScheduler(beta_schedule="linear", prediction_type="v_prediction"),
        transformer=diffusers.PixArtTransformer2DModel(**sizes | config),
    )


CALL = {"output_type": "latent", "use_resolution_binning": False, "clean_caption": False, "max_sequence_length": 24}
CASES = (Case("pixart-sigma", pixart_sigma, TEXTS, {"guidance_scale": 1.0}, {}, CALL, scores={"entropy": 1.0}),)
