"""Cosmos 1, with guidance in two passes; its pipeline steps the scheduler twice after them."""

from __future__ import annotations

from typing import Any

import diffusers

from tocache.demo.random_text import TEXT_DIM

from ...conftest import Case
from .parts import TEXTS, miniature, t5
from .pictures import LATENTS


class AllIsSafe:
    """Stands for the pipeline's guardrail, a package of its own with weights of its own."""

    def to(self, device: Any) -> None:
        pass

    def check_text_safety(self, prompt: str) -> bool:
        return True

    def check_video_safety(self, frames: Any) -> Any:
        return frames


def _vae() -> Any:
    return diffusers.AutoencoderKLCosmos(
        latent_channels=LATENTS,
        encoder_block_out_channels=(8, 8, 8, 8),
        decode_block_out_channels=(8, 8, 8, 8),
        attention_resolutions=(8,),
        resolution=64,
        num_layers=1,
        latents_mean=None,
        latents_std=None,
    ).eval()


@miniature
def cosmos(**config: Any) -> Any:
    from diffusers.pipelines.cosmos import pipeline_cosmos_text2world

    pipeline_cosmos_text2world.CosmosSafetyChecker = AllIsSafe
    # a mask for padding would ask for torchvision; learned positions, which Cosmos 2 lacks, do not know float64
    sizes: dict[str, Any] = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 12, "mlp_ratio": 2}
    sizes |= {"in_channels": LATENTS, "out_channels": LATENTS, "text_embed_dim": TEXT_DIM, "adaln_lora_dim": 8}
    sizes |= {"max_size": (4, 16, 16), "concat_padding_mask": False, "extra_pos_embed_type": None}
    pipe = diffusers.CosmosTextToWorldPipeline(
        **t5(),
        vae=_vae(),
        scheduler=diffusers.EDMEulerScheduler(
            sigma_data=0.5, sigma_schedule="karras", prediction_type="epsilon", final_sigmas_type="sigma_min"
        ),
        transformer=diffusers.CosmosTransformer3DModel(**sizes | config),
    )
    pipe.register_to_config(safety_checker=(None, None))  # what stands for it cannot be saved
    return pipe


CALL: dict[str, Any] = {"output_type": "latent", "height": 64, "width": 64, "num_frames": 9, "max_sequence_length": 16}
SPECIAL: dict[str, Any] = {"resized": {"height": 96}, "output": "frames", "flow": True, "slow": True}
# its latents are float32 whatever the model is
SPECIAL |= {"close": 1e-5, "needs": ("CosmosTextToWorldPipeline",)}
CASES = (Case("cosmos", cosmos, TEXTS, {"guidance_scale": 1.0}, {}, CALL, **SPECIAL),)
