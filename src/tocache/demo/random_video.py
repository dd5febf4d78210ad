"""A seeded random miniature of Open-Sora 1.2, in the classes of `tocache.opensora`; see `random_pipelines`."""

from __future__ import annotations

from typing import Any

import torch

from tocache.demo.autoencoder import picture_autoencoder
from tocache.demo.random_pipelines import BLOCK, LATENT_CHANNELS, cast
from tocache.demo.random_text import TEXT_DIM, tiny_t5_encoder, tiny_t5_tokenizer
from tocache.demo.random_weights import (
    fill_body,
    fill_linear,
    fill_modulation,
    fill_offset,
    fill_time_embedding,
    seeded,
    tie_ends,
)
from tocache.opensora import AutoencoderKLOpenSora, OpenSoraPipeline, RFlowScheduler, STDiT3Transformer3DModel

_TEXT_TOKENS = 64


def random_video_pipeline(
    seed: int = 0,
    *,
    depth: int = 6,
    hidden: int = 48,
    heads: int = 4,
    dtype: torch.dtype = torch.float32,
) -> OpenSoraPipeline:
    """Text to video with Open-Sora's classes; ``pipe(prompt)`` takes 30 rectified-flow steps.

    Name a small video: ``pipe(prompt, height=64, width=64, num_frames=17)``.

    Args:
        seed: decides all weights.
        depth: number of pairs of a spatial and a temporal block.
        hidden: width of the transformer; a multiple of 4 · `heads`.
        heads: number of attention heads.
        dtype: of all weights.
    """
    with seeded(seed) as generator:
        tokenizer = tiny_t5_tokenizer()
        pipe = OpenSoraPipeline(
            tokenizer=tokenizer,
            text_encoder=tiny_t5_encoder(tokenizer),
            transformer=_stdit(depth, hidden, heads, generator),
            vae=_vae(),
            scheduler=RFlowScheduler(),
        )
    cast(pipe, dtype)
    return pipe


def _stdit(depth: int, hidden: int, heads: int, generator: torch.Generator) -> STDiT3Transformer3DModel:
    model: Any = STDiT3Transformer3DModel(
        num_layers=depth,
        num_attention_heads=heads,
        attention_head_dim=hidden // heads,
        in_channels=LATENT_CHANNELS,
        out_channels=2 * LATENT_CHANNELS,  # with a variance that nobody reads, as published
        caption_channels=TEXT_DIM,
        max_text_length=_TEXT_TOKENS,
    )
    fill_body(model, generator)
    for embedder in (model.t_embedder, model.fps_embedder):
        fill_time_embedding(embedder.mlp[0], embedder.mlp[2], generator)
    fill_modulation(model.t_block[1], ("shift",) * 6, 2 * depth, generator)
    for block in (*model.spatial_blocks, *model.temporal_blocks):
        # Half as strong as the other branches: guidance multiplies what the text changes.
        fill_linear(block.cross_attn.proj, generator, std=0.5)
        for row, kind in zip(block.scale_shift_table, BLOCK, strict=True):
            fill_offset(row, kind, 2 * depth, generator)
    fill_offset(model.final_layer.scale_shift_table, "scale", 2 * depth, generator)
    tie_ends(model.x_embedder.proj, model.final_layer.linear, generator)
    built: STDiT3Transformer3DModel = model.eval()
    return built


def _vae() -> AutoencoderKLOpenSora:
    """With diffusers' own initial weights: its videos are noise."""
    widths = (8, 8, 8, 8)
    spatial = picture_autoencoder(widths, latent_channels=LATENT_CHANNELS, norm_num_groups=2)
    vae: AutoencoderKLOpenSora = AutoencoderKLOpenSora(
        spatial=spatial, channel_widths=widths, blocks_per_level=1, norm_num_groups=2
    )
    vae.eval()
    return vae
