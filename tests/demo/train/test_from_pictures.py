"""A video model that begins as a picture model draws each frame as that one would."""

from __future__ import annotations

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from torch import Tensor

from tocache.demo.train.from_pictures import begin_as_pictures
from tocache.errors import CheckpointError
from tocache.opensora import STDiT3Transformer3DModel

DEPTH, HEADS, HEAD, TEXT = 2, 2, 16, 24


def picture_model(depth: int = DEPTH) -> PixArtTransformer2DModel:
    torch.manual_seed(0)
    return PixArtTransformer2DModel(
        num_attention_heads=HEADS,
        attention_head_dim=HEAD,
        in_channels=4,
        out_channels=4,
        num_layers=depth,
        cross_attention_dim=HEADS * HEAD,
        caption_channels=TEXT,
        sample_size=8,
        patch_size=2,
    ).eval()


def video_model(*, qk_norm: bool = False, depth: int = DEPTH) -> STDiT3Transformer3DModel:
    torch.manual_seed(1)
    return STDiT3Transformer3DModel(
        num_layers=depth,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD,
        in_channels=4,
        out_channels=4,
        caption_channels=TEXT,
        max_text_length=5,
        input_sq_size=64,
        qk_norm=qk_norm,
    ).eval()


def velocity(model: STDiT3Transformer3DModel, latents: Tensor, times: Tensor, text: Tensor, mask: Tensor) -> Tensor:
    with torch.no_grad():
        result: Tensor = model(latents, times, text, mask, fps=8, return_dict=False)[0]
    return result


@pytest.mark.parametrize("frames", [1, 3])
def test_each_frame_moves_as_the_picture_would_from_noise_to_clean(frames: int) -> None:
    pictures, videos = picture_model(), video_model()
    begin_as_pictures(videos, pictures, torch.zeros(TEXT))
    latents, text = torch.randn(2, 4, frames, 8, 8), torch.randn(2, 7, TEXT)
    mask, times = torch.tensor([[1] * 7, [1] * 3 + [0] * 4]), torch.tensor([500.0, 931.0])
    moved = velocity(videos, latents, times, text, mask)
    for frame in range(frames):
        with torch.no_grad():
            back = pictures(
                latents[:, :, frame],
                encoder_hidden_states=text,
                encoder_attention_mask=mask,
                timestep=times,
                added_cond_kwargs={"resolution": None, "aspect_ratio": None},
                return_dict=False,
            )[0]
        torch.testing.assert_close(moved[:, :, frame], -back, rtol=1e-4, atol=1e-5)


def test_no_caption_is_what_the_text_encoder_says_of_none() -> None:
    videos, nothing = video_model(), torch.randn(TEXT)
    begin_as_pictures(videos, picture_model(), nothing)
    assert torch.equal(videos.y_embedder.y_embedding, nothing.expand(5, -1))


def test_frames_learn_of_each_other() -> None:
    """What begins as nothing must not stay so: the first gradients reach what joins the frames."""
    videos = video_model()
    begin_as_pictures(videos, picture_model(), torch.zeros(TEXT))
    videos(torch.randn(1, 4, 3, 8, 8), torch.tensor([500.0]), torch.randn(1, 7, TEXT)).sample.square().sum().backward()
    for block in videos.temporal_blocks:
        assert block.attn.proj.weight.grad.abs().max() > 0
        assert block.mlp.fc2.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("videos", "named"),
    [
        (lambda: video_model(depth=3), "spatial_blocks.2"),
        (lambda: video_model(depth=1), "spatial_blocks.1"),
        (lambda: video_model(qk_norm=True), "norm"),
    ],
    ids=["deeper", "shallower", "norms"],
)
def test_models_that_are_not_alike_are_refused_and_left_alone(videos: object, named: str) -> None:
    model = videos()  # type: ignore[operator]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=named):
        begin_as_pictures(model, picture_model(), torch.zeros(TEXT))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
