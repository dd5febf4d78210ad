"""ConsisID, which is built as CogVideoX and attends to a face between its blocks."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

import tocache
from tocache.demo.random_weights import fill_body, seeded
from tocache.models.registry import family_of

FRAMES, SIDE, TEXT, STEPS = 3, 8, 5, 9


@pytest.fixture(scope="module")
def consisid() -> Any:
    sizes = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "out_channels": 4}
    sizes |= {"text_embed_dim": 8, "time_embed_dim": 8, "sample_width": SIDE, "sample_height": SIDE}
    sizes |= {"sample_frames": 9, "max_text_seq_length": TEXT}
    face = {"cross_attn_dim_head": 4, "cross_attn_num_heads": 2, "LFE_id_dim": 6, "LFE_vit_dim": 4, "LFE_depth": 1}
    face |= {"LFE_dim_head": 4, "LFE_num_heads": 2, "LFE_num_id_token": 2, "LFE_num_querie": 2, "LFE_output_dim": 10}
    with seeded(0) as generator:
        model = diffusers.ConsisIDTransformer3DModel(
            **sizes, **face, LFE_ff_mult=1, LFE_num_scale=1, is_train_face=True
        )
        fill_body(model.eval(), generator)
    return model.double()


def inputs(rows: int = 2) -> dict[str, Any]:
    dice = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(rows, *shape, generator=dice, dtype=torch.float64)

    return {
        "hidden_states": random(FRAMES, 4, SIDE, SIDE),
        "encoder_hidden_states": random(TEXT, 8),
        "timestep": torch.full((rows,), 500),
        "id_cond": random(6),
        "id_vit_hidden": [random(7, 4)],
        "return_dict": False,
    }


def test_what_is_served_is_what_would_have_been_computed(consisid: Any) -> None:
    given = inputs()
    with torch.no_grad():
        plain = consisid(**given)[0]
    tocache.enable(consisid, tocache.ToCa(3, 0.3))
    with tocache.run(consisid, timesteps=STEPS, cfg=None) as run, torch.no_grad():
        for _ in range(STEPS):
            torch.testing.assert_close(consisid(**given)[0], plain, rtol=1e-9, atol=1e-9)
            run.step()
    report = tocache.report(consisid)
    tocache.disable(consisid)
    assert report.family == "cogvideox"
    assert report.overruled == 0
    assert report.steps_by_kind["partial"] > 0


def test_its_latents_make_a_grid_of_frames_and_places(consisid: Any) -> None:
    assert family_of(consisid).grid(consisid, inputs()) == (FRAMES, SIDE // 2, SIDE // 2)
