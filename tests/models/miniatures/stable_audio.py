"""Stable Audio Open, with guidance."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from transformers import T5Tokenizer

from tocache.demo.random_text import TEXT_DIM, tiny_t5_encoder, tiny_t5_tokenizer

from ...conftest import Case
from .parts import TEXTS, miniature
from .pictures import LATENTS


def _tokenizer() -> T5Tokenizer:
    """Whose longest text all texts are padded to."""
    tokenizer = tiny_t5_tokenizer()
    tokenizer.model_max_length = tokenizer.init_kwargs["model_max_length"] = 16
    return tokenizer


@torch.no_grad()  # its weights are products, which could not be copied with gradients
def _vae() -> Any:
    return diffusers.AutoencoderOobleck(
        encoder_hidden_size=4,
        downsampling_ratios=[2, 4],
        channel_multiples=[1, 2],
        decoder_channels=4,
        decoder_input_channels=LATENTS,
        sampling_rate=16,
    ).eval()


@miniature
def stable_audio(**config: Any) -> Any:
    sizes = {"num_layers": 2, "num_attention_heads": 2, "num_key_value_attention_heads": 1, "attention_head_dim": 16}
    sizes |= {"in_channels": LATENTS, "out_channels": LATENTS, "cross_attention_dim": 16, "time_proj_dim": 16}
    sizes |= {"cross_attention_input_dim": TEXT_DIM, "global_states_input_dim": 2 * TEXT_DIM, "sample_size": 16}
    tokenizer = _tokenizer()
    return diffusers.StableAudioPipeline(
        tokenizer=tokenizer,
        text_encoder=tiny_t5_encoder(tokenizer),
        projection_model=diffusers.StableAudioProjectionModel(TEXT_DIM, TEXT_DIM, min_value=0, max_value=32).eval(),
        vae=_vae(),
        scheduler=diffusers.EDMDPMSolverMultistepScheduler(
            sigma_data=1.0, sigma_schedule="exponential", prediction_type="v_prediction"
        ),
        transformer=diffusers.StableAudioDiTModel(**sizes | config),
    )


# it rotates queries and keys in float32
SPECIAL: dict[str, Any] = {"output": "audios", "flow": True, "close": 1e-5, "resized": {}}
CALL = {"output_type": "latent"}
SPECIAL |= {"slow": True, "ignored": ("`torch.nn.utils.weight_norm` is deprecated",), "needs": ("StableAudioPipeline",)}
CASES = (Case("stable-audio", stable_audio, TEXTS, {"guidance_scale": 1.0}, {}, CALL, **SPECIAL),)
