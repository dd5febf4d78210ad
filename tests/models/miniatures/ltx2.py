"""LTX-2, its sound drawn by a copy of the scheduler, with guidance in three passes, as it comes."""

from __future__ import annotations

from typing import Any

import diffusers
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig, SiglipVisionConfig

from tocache.demo.random_text import TEXT_DIM, tiny_t5_tokenizer

from ...conftest import Case
from .parts import TEXTS, miniature
from .pictures import LATENTS

LAYERS = 2
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}


def _gemma(vocabulary: int) -> Any:
    sizes: dict[str, Any] = {"hidden_size": TEXT_DIM, "intermediate_size": 32, "num_hidden_layers": LAYERS}
    text = Gemma3TextConfig(vocab_size=vocabulary, head_dim=8, **HEADS, **sizes)
    vision = SiglipVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=16, patch_size=8
    )
    return Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision)).eval()


def _connectors() -> Any:
    module = import_connectors()
    sizes: dict[str, Any] = {"caption_channels": TEXT_DIM, "text_proj_in_factor": LAYERS + 1}
    for stream in ("video", "audio"):
        sizes |= {f"{stream}_connector_num_attention_heads": 2, f"{stream}_connector_attention_head_dim": TEXT_DIM // 2}
        sizes |= {f"{stream}_connector_num_layers": 1, f"{stream}_connector_num_learnable_registers": 4}
    return module.LTX2TextConnectors(**sizes).eval()


def import_connectors() -> Any:
    """What an older diffusers lacks."""
    from diffusers.pipelines import ltx2

    return ltx2


def _vae() -> Any:
    return diffusers.AutoencoderKLLTX2Video(
        latent_channels=LATENTS,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        spatial_compression_ratio=32,
        temporal_compression_ratio=8,
    ).eval()


def _audio_vae() -> Any:
    sizes = {"base_channels": 8, "ch_mult": (1, 1, 1), "num_res_blocks": 1, "latent_channels": 2}
    return diffusers.AutoencoderKLLTX2Audio(mel_bins=16, resolution=16, **sizes).eval()


def _vocoder() -> Any:
    kernels = {"upsample_kernel_sizes": [4, 4], "upsample_factors": [2, 2], "resnet_kernel_sizes": [3]}
    return (
        import_connectors()
        .LTX2Vocoder(in_channels=32, hidden_channels=8, resnet_dilations=[[1, 3, 5]], **kernels)
        .eval()
    )


@miniature
def ltx2(**config: Any) -> Any:
    sizes: dict[str, Any] = {"num_layers": 2, "caption_channels": TEXT_DIM}
    sizes |= {"num_attention_heads": 2, "attention_head_dim": 12, "cross_attention_dim": 24}
    sizes |= {"audio_num_attention_heads": 2, "audio_attention_head_dim": 8, "audio_cross_attention_dim": 16}
    sizes |= {"in_channels": LATENTS, "out_channels": LATENTS, "audio_in_channels": 8, "audio_out_channels": 8}
    tokenizer = tiny_t5_tokenizer()
    return diffusers.LTX2Pipeline(
        tokenizer=tokenizer,
        text_encoder=_gemma(len(tokenizer)),
        connectors=_connectors(),
        vae=_vae(),
        audio_vae=_audio_vae(),
        vocoder=_vocoder(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        transformer=diffusers.LTX2VideoTransformer3DModel(**sizes | config),
    )


CALL: dict[str, Any] = {
    "output_type": "latent",
    "height": 128,
    "width": 128,
    "num_frames": 9,
    "max_sequence_length": 16,
}
CALL |= {"spatio_temporal_guidance_blocks": [1]}
PLAIN = {"guidance_scale": 1.0, "audio_guidance_scale": 1.0, "stg_scale": 0.0, "audio_stg_scale": 0.0}
PLAIN |= {"modality_scale": 1.0, "audio_modality_scale": 1.0}
SPECIAL: dict[str, Any] = {"resized": {"height": 192}, "output": "frames", "flow": True, "needs": ("LTX2Pipeline",)}
# attentions with gates, and modulated queries and keys of the text
GATED = dict.fromkeys(("gated_attn", "audio_gated_attn", "cross_attn_mod", "audio_cross_attn_mod"), True)
CASES = (
    Case("ltx-2", ltx2, TEXTS, PLAIN, {}, CALL, **SPECIAL),
    Case("ltx-2.3", ltx2, TEXTS, PLAIN, GATED, CALL, slow=True, **SPECIAL),
)
