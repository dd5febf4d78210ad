"""Wan 2.1, and Wan 2.2 with one transformer for high noise and one for low."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffusers

from tocache.demo.random_text import TEXT_DIM

from ...conftest import Case
from .parts import TEXTS, miniature, t5


def wan_transformer(**config: Any) -> Any:
    sizes = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 12, "ffn_dim": 32, "rope_max_seq_len": 32}
    return diffusers.WanTransformer3DModel(
        **sizes | {"in_channels": 4, "out_channels": 4, "text_dim": TEXT_DIM} | config
    )


def wan_vae() -> Any:
    return diffusers.AutoencoderKLWan(
        base_dim=3,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    ).eval()


@miniature
def wan(*, expand_timesteps: bool = False, **config: Any) -> Any:
    """`expand_timesteps` gives every token a time of its own, as Wan 2.2 TI2V has it."""
    return diffusers.WanPipeline(
        **t5(),
        vae=wan_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=wan_transformer(**config),
        expand_timesteps=expand_timesteps,
    )


@miniature
def wan_2_2(**config: Any) -> Any:
    return diffusers.WanPipeline(
        **t5(),
        vae=wan_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=wan_transformer(**config),
        transformer_2=wan_transformer(**config),
        boundary_ratio=0.7,
    )


CALL: dict[str, Any] = {"output_type": "latent", "height": 64, "width": 64, "num_frames": 9, "max_sequence_length": 16}
WAN = Case("wan", wan, TEXTS, {"guidance_scale": 1.0}, {}, CALL, resized={"height": 96}, output="frames", flow=True)
WAN_2_2 = replace(WAN, name="wan-2.2", build=wan_2_2)
CASES = (WAN, WAN_2_2)
