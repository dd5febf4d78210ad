"""Seeded random miniatures of PixArt-α, DiT and FLUX, in diffusers' own classes.

They draw abstract patterns. Their use is that everything around the picture is real: the pipelines, transformers,
schedulers, tokenizers and file formats are those of the published models, they need no download, are built in a
fraction of a second, and sample in a few seconds on two CPU cores.

All predict velocities (the FLUX one by its flow matching, the others by ``prediction_type="v_prediction"``, where the
published models predict noise): a velocity that is wrong leaves the latents bounded, while noise that is wrong is
divided by α, which is close to 0 in the first steps. `random_weights` says what else the random models keep of trained
ones.

Every builder leaves torch's global random state untouched and returns the pipeline on the CPU, in evaluation mode.
"""

from __future__ import annotations

import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
)
from torch import nn

from tocache.demo.random_text import (
    TEXT_DIM,
    tiny_clip_encoder,
    tiny_clip_tokenizer,
    tiny_t5_encoder,
    tiny_t5_tokenizer,
)
from tocache.demo.random_vae import smooth_vae
from tocache.demo.random_weights import (
    Modulation,
    centre_positions,
    fill_body,
    fill_embedding,
    fill_linear,
    fill_modulation,
    fill_offset,
    seeded,
    tie_ends,
)

LATENT_CHANNELS = 4
_PATCH = 2
_CLASSES = 1000  # DiTPipeline's unconditional class is number 1000, one past the last
_LABELS = {207: "golden retriever", 270: "white wolf", 360: "otter", 387: "red panda, lesser panda", 979: "valley"}
BLOCK: tuple[Modulation, ...] = ("shift", "scale", "gate", "shift", "scale", "gate")


def random_text_pipeline(
    seed: int = 0,
    *,
    depth: int = 12,
    hidden: int = 64,
    heads: int = 4,
    sample_size: int = 32,
    dtype: torch.dtype = torch.float32,
) -> PixArtAlphaPipeline:
    """Text to image with PixArt-α's classes; ``pipe(prompt)`` takes 20 DPM-Solver++ steps.

    Args:
        seed: decides all weights.
        depth: number of transformer blocks.
        hidden: width of the transformer; a multiple of 4 and of `heads`, and of 3 where `sample_size` is 128.
        heads: number of attention heads.
        sample_size: side of the latents; (sample_size / 2)² tokens and 8 · sample_size pixels a side. The pipeline
            bins resolutions for 32, 64 and 128 only (call it with ``use_resolution_binning=False`` for other sizes)
            and 128 brings the micro-conditions on resolution and aspect ratio.
        dtype: of all weights.
    """
    with seeded(seed) as generator:
        tokenizer = tiny_t5_tokenizer()
        pipe = PixArtAlphaPipeline(
            tokenizer=tokenizer,
            text_encoder=tiny_t5_encoder(tokenizer),
            vae=smooth_vae(generator, latent_channels=LATENT_CHANNELS, scaling_factor=0.18215),
            transformer=_pixart(depth, hidden, heads, sample_size, generator),
            scheduler=DPMSolverMultistepScheduler(
                algorithm_type="dpmsolver++", beta_schedule="linear", prediction_type="v_prediction"
            ),
        )
    cast(pipe, dtype)
    return pipe


def random_class_pipeline(
    seed: int = 0,
    *,
    depth: int = 12,
    hidden: int = 64,
    heads: int = 4,
    sample_size: int = 32,
    dtype: torch.dtype = torch.float32,
) -> DiTPipeline:
    """Class to image with DiT's classes; ``pipe(class_labels)`` takes 50 DDIM steps.

    Any class from 0 to 999 works; a few have names (``pipe.get_label_ids(["otter"])``).

    Args:
        seed: decides all weights.
        depth: number of transformer blocks.
        hidden: width of the transformer; a multiple of 4 and of `heads`.
        heads: number of attention heads.
        sample_size: side of the latents; (sample_size / 2)² tokens and 8 · sample_size pixels a side.
        dtype: of all weights.
    """
    with seeded(seed) as generator:
        pipe = DiTPipeline(
            transformer=_dit(depth, hidden, heads, sample_size, generator),
            vae=smooth_vae(generator, latent_channels=LATENT_CHANNELS, scaling_factor=0.18215),
            scheduler=DDIMScheduler(beta_schedule="linear", clip_sample=False, prediction_type="v_prediction"),
            id2label=_LABELS,
        )
    # What DiTPipeline itself does not do: without it the names would be lost in saving.
    pipe.register_to_config(id2label=_LABELS)
    cast(pipe, dtype)
    return pipe


def random_flux_pipeline(
    seed: int = 0,
    *,
    double_depth: int = 3,
    single_depth: int = 6,
    hidden: int = 64,
    heads: int = 4,
    sample_size: int = 32,
    dtype: torch.dtype = torch.float32,
) -> FluxPipeline:
    """Text to image with FLUX.1-dev's classes; ``pipe(prompt)`` takes 28 Euler steps with dynamic shifting.

    Unlike FLUX's, the latents have 4 channels, 16 when packed.

    Args:
        seed: decides all weights.
        double_depth, single_depth: numbers of double-stream and single-stream blocks.
        hidden: width of the transformer; a multiple of 2 · `heads`.
        heads: number of attention heads.
        sample_size: side of the latents where the call names no size; (sample_size / 2)² image tokens, beside 512 text
            tokens unless the call sets ``max_sequence_length``. It belongs to this pipeline object: diffusers saves no
            such thing and a pipeline that was saved and loaded draws 1024 × 1024 pixels again.
        dtype: of all weights.
    """
    with seeded(seed) as generator:
        clip_tokenizer, t5_tokenizer = tiny_clip_tokenizer(), tiny_t5_tokenizer()
        pipe = FluxPipeline(
            scheduler=_flux_scheduler(),
            vae=smooth_vae(generator, latent_channels=LATENT_CHANNELS, scaling_factor=0.3611, shift_factor=0.1159),
            text_encoder=tiny_clip_encoder(clip_tokenizer),
            tokenizer=clip_tokenizer,
            text_encoder_2=tiny_t5_encoder(t5_tokenizer),
            tokenizer_2=t5_tokenizer,
            transformer=_flux(double_depth, single_depth, hidden, heads, generator),
        )
    pipe.default_sample_size = sample_size
    cast(pipe, dtype)
    return pipe


def cast(pipe: DiffusionPipeline, dtype: torch.dtype) -> None:
    """Give all modules of a pipeline one dtype."""
    for component in pipe.components.values():
        if isinstance(component, nn.Module):
            # Not the component's own `to`: diffusers' warns of modules to be kept in float32 where there are none.
            nn.Module.to(component, dtype)


def _pixart(
    depth: int, hidden: int, heads: int, sample_size: int, generator: torch.Generator
) -> PixArtTransformer2DModel:
    model = PixArtTransformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=hidden // heads,
        in_channels=LATENT_CHANNELS,
        out_channels=2 * LATENT_CHANNELS,  # with a learned variance, as published
        num_layers=depth,
        cross_attention_dim=hidden,
        caption_channels=TEXT_DIM,
        sample_size=sample_size,
        patch_size=_PATCH,
    )
    fill_body(model, generator)
    fill_modulation(model.adaln_single.linear, ("shift",) * 6, depth, generator)
    for block in model.transformer_blocks:
        # Half as strong as the other branches: guidance multiplies what the text changes.
        fill_linear(block.attn2.to_out[0], generator, std=0.5)
        for row, kind in zip(block.scale_shift_table, BLOCK, strict=True):
            fill_offset(row, kind, depth, generator)
    fill_offset(model.scale_shift_table, "scale", depth, generator)
    tie_ends(model.pos_embed.proj, model.proj_out, generator)
    centre_positions(model.pos_embed)
    return model.eval()


def _dit(depth: int, hidden: int, heads: int, sample_size: int, generator: torch.Generator) -> DiTTransformer2DModel:
    model = DiTTransformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=hidden // heads,
        in_channels=LATENT_CHANNELS,
        out_channels=2 * LATENT_CHANNELS,  # with a learned variance, as published
        num_layers=depth,
        num_embeds_ada_norm=_CLASSES,
        sample_size=sample_size,
        patch_size=_PATCH,
    )
    fill_body(model, generator)
    conditions = model.transformer_blocks[0].norm1.emb
    fill_embedding(conditions.class_embedder.embedding_table, generator)
    for block in model.transformer_blocks:
        fill_modulation(block.norm1.linear, BLOCK, depth, generator)
        # diffusers gives each block an embedder of its own; in converted checkpoints all hold the same weights.
        block.norm1.emb.load_state_dict(conditions.state_dict())
    fill_modulation(model.proj_out_1, ("shift", "scale"), depth, generator)
    tie_ends(model.pos_embed.proj, model.proj_out_2, generator)
    centre_positions(model.pos_embed)
    return model.eval()


def _flux(
    double_depth: int, single_depth: int, hidden: int, heads: int, generator: torch.Generator
) -> FluxTransformer2DModel:
    head_dim = hidden // heads
    spatial = 2 * (
        head_dim * 7 // 32
    )  # FLUX's proportions: of 128 channels, 16 for the first axis and 56 for each side
    packed = LATENT_CHANNELS * _PATCH**2
    model = FluxTransformer2DModel(
        in_channels=packed,
        num_layers=double_depth,
        num_single_layers=single_depth,
        attention_head_dim=head_dim,
        num_attention_heads=heads,
        joint_attention_dim=TEXT_DIM,
        pooled_projection_dim=TEXT_DIM,
        guidance_embeds=True,
        axes_dims_rope=(head_dim - 2 * spatial, spatial, spatial),
    )
    depth = double_depth + single_depth
    fill_body(model, generator)
    for block in model.transformer_blocks:
        fill_modulation(block.norm1.linear, BLOCK, depth, generator)
        fill_modulation(block.norm1_context.linear, BLOCK, depth, generator)
        # Most of the 512 text tokens are padding, which FLUX does not mask: they must not outweigh the image.
        block.attn.norm_added_k.weight.data.fill_(0.5)
    for block in model.single_transformer_blocks:
        fill_modulation(block.norm.linear, BLOCK[:3], depth, generator)
    fill_modulation(model.norm_out.linear, ("scale", "shift"), depth, generator)
    tie_ends(model.x_embedder, model.proj_out, generator)
    return model.eval()


def _flux_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """FLUX.1-dev's settings."""
    return FlowMatchEulerDiscreteScheduler(
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )
