"""Allegro."""

from __future__ import annotations

from typing import Any

import diffusers

from tocache.demo.random_text import TEXT_DIM

from ...conftest import Case
from .parts import TEXTS, miniature, t5


def _vae() -> Any:
    return diffusers.AutoencoderKLAllegro(
        down_block_types=("AllegroDownBlock3D",) * 4,
        up_block_types=("AllegroUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    ).eval()


@miniature
def allegro(**config: Any) -> Any:
    # its rotary embedding shares the channels of a head among three axes
    sizes = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 24, "cross_attention_dim": 48}
    sizes |= {"caption_channels": TEXT_DIM, "sample_height": 8, "sample_width": 8, "sample_frames": 3}
    return diffusers.AllegroPipeline(
        **t5(),
        vae=_vae(),
        scheduler=diffusers.DDIMScheduler(
            beta_schedule="linear", clip_sample=False, prediction_type="v_prediction", timestep_spacing="trailing"
        ),
        transformer=diffusers.AllegroTransformer3DModel(**sizes | config),
    )


CALL: dict[str, Any] = {"output_type": "latent", "height": 64, "width": 64, "num_frames": 9, "clean_caption": False}
ALLEGRO = Case(
    "allegro",
    allegro,
    TEXTS,
    {"guidance_scale": 1.0},
    {},
    CALL | {"max_sequence_length": 16},
    resized={"height": 96},
    output="frames",
)
CASES = (ALLEGRO,)
