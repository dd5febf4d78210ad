"""STDiT3, the transformer of Open-Sora 1.2, as a diffusers model; state-dict keys are the original's."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from tocache.checkpoints.pretrained import LoadedWhole
from tocache.errors import OptionError
from tocache.opensora.block import EPS, Conditioning, STDiT3Block, modulated, modulation
from tocache.opensora.embeddings import (
    CaptionEmbedder,
    PatchEmbed3D,
    RotaryFrequencies,
    ScalarEmbedder,
    position_table,
)


class FinalLayer(nn.Module):
    """(B, N, width) → (B, N, patch · channels), modulated like a block."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, EPS, elementwise_affine=False)
        self.linear = nn.Linear(width, outputs)
        self.scale_shift_table = nn.Parameter(torch.randn(2, width) / width**0.5)

    def forward(self, x: Tensor, given: Conditioning) -> Tensor:
        """`given` with the time's embedding itself: it moves shift and scale alike.

        Open-Sora v1.2.0 normalises the frames that are given a second time here, after their first modulation. Its
        sampler throws their outputs away, as `OpenSoraPipeline` does; here they are what timestep 0 gives.
        """
        both = given._replace(
            time=given.time.repeat(1, 2),
            time_zero=None if given.time_zero is None else given.time_zero.repeat(1, 2),
        )
        shift, scale = modulation(self.scale_shift_table, both)
        outputs: Tensor = self.linear(modulated(self.norm_final(x), shift, scale))
        return outputs


class STDiT3Transformer3DModel(LoadedWhole, ModelMixin, ConfigMixin):  # type: ignore[misc]
    """STDiT3-XL/2 by default: 1,207,643,936 parameters, one spatial and one temporal block per layer.

    num_layers           pairs of a spatial and a temporal block
    num_attention_heads  heads, each `attention_head_dim` wide
    in_channels          of the latent; out_channels: velocity, then what is thrown away (the predicted variance)
    patch_size           of one token, in latent frames, rows and columns
    mlp_ratio            inner width of the MLPs over the model's
    caption_channels     of the text encoder's output
    max_text_length      tokens of the embedding of no caption (`y_embedder.y_embedding`)
    input_sq_size        side in pixels of the square on which positions have scale 1
    qk_norm              queries and keys are normalised (RMS) before they are rotated
    sample_size          latents on a side of the videos that it was trained on; None: of many sizes
    sample_frames, sample_fps  frames of these videos, and how many of them are a second
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ("STDiT3Block",)
    _repeated_blocks = ("STDiT3Block",)

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        num_layers: int = 28,
        num_attention_heads: int = 16,
        attention_head_dim: int = 72,
        in_channels: int = 4,
        out_channels: int = 8,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        mlp_ratio: float = 4.0,
        caption_channels: int = 4096,
        max_text_length: int = 300,
        input_sq_size: int = 512,
        qk_norm: bool = True,
        sample_size: int | None = None,
        sample_frames: int | None = None,
        sample_fps: float | None = None,
    ) -> None:
        super().__init__()
        width = num_attention_heads * attention_head_dim
        if width % 4:
            raise OptionError(f"a width of {width} is not allowed; allowed: a multiple of 4")
        frames, rows, columns = patch_size
        self.patch_size = (frames, rows, columns)
        self.x_embedder = PatchEmbed3D(self.patch_size, in_channels, width)
        self.t_embedder = ScalarEmbedder(width)
        self.fps_embedder = ScalarEmbedder(width)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.y_embedder = CaptionEmbedder(caption_channels, width, max_text_length)
        self.rope = RotaryFrequencies(attention_head_dim)
        sizes = (width, num_attention_heads, mlp_ratio)
        self.spatial_blocks = nn.ModuleList(STDiT3Block(*sizes, "space", qk_norm=qk_norm) for _ in range(num_layers))
        self.temporal_blocks = nn.ModuleList(STDiT3Block(*sizes, "time", qk_norm=qk_norm) for _ in range(num_layers))
        self.final_layer = FinalLayer(width, frames * rows * columns * out_channels)
        self.gradient_checkpointing = False

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_attention_mask: Tensor | None = None,
        frame_mask: Tensor | None = None,
        fps: Tensor | float = 24.0,
        height: Tensor | float | None = None,
        width: Tensor | float | None = None,
        return_dict: bool = True,
    ) -> Any:
        """One evaluation; the sample is (B, out_channels, T, H, W) in float32, whatever the dtype of the weights.

        hidden_states           (B, in_channels, T, H, W) latent
        timestep                (B,) in 0 … 1000, fractions included
        encoder_hidden_states   (B, L, caption_channels), or (B, 1, L, caption_channels) as the original takes it
        encoder_attention_mask  (B, L) nonzero where there is text; None: everywhere. Fewer rows are repeated
        frame_mask              (B, T / patch) True where a frame is generated; the others are given and have timestep 0
        fps                     frames per second; an image counts as 120. Either of a batch or of each row
        height, width           pixels of the video, one size for the batch; None: 8 times the latent's. They are
                                rounded to the dtype of the weights, as the original's are (bf16 cannot hold 854)

        Raises OptionError where a mask does not fit the batch.
        """
        dtype, device = self.x_embedder.proj.weight.dtype, hidden_states.device
        batch, _, *latent = hidden_states.shape
        told = [8 * side if given is None else given for given, side in zip((height, width), latent[1:], strict=True)]
        pixels = _rounded(told[0], dtype) * _rounded(told[1], dtype)

        x = self.x_embedder(hidden_states.to(dtype))  # (B, T', H', W', C)
        _, frames, rows, columns, channels = x.shape
        scale = pixels**0.5 / self.config.input_sq_size
        positions = position_table(rows, columns, channels, scale=scale, dtype=dtype, device=device)
        x = (x.flatten(2, 3) + positions).flatten(1, 2)  # (B, N, C)

        rate = self.fps_embedder(_of_rows(fps, batch, dtype, device))
        time = self.t_embedder(_of_rows(timestep, batch, dtype, device)) + rate  # (B, C)
        text, text_mask = self._text(encoder_hidden_states.to(dtype), encoder_attention_mask, batch)
        given = Conditioning(text, text_mask, self.t_block(time), frames)
        last = given._replace(time=time)
        if frame_mask is not None:
            mask = _of_frames(frame_mask, batch, frames)
            still = self.t_embedder(torch.zeros(batch, dtype=dtype, device=device)) + rate
            given = given._replace(time_zero=self.t_block(still), frame_mask=mask)
            last = last._replace(time_zero=still, frame_mask=mask)

        for spatial, temporal in zip(self.spatial_blocks, self.temporal_blocks, strict=True):
            x = self._run(spatial, x, given)
            x = self._run(temporal, x, given, self.rope)

        sample = self._unpatchify(self.final_layer(x, last), frames, rows, columns, latent).float()
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)

    def _run(self, block: nn.Module, *inputs: Any) -> Tensor:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            checkpointed: Tensor = self._gradient_checkpointing_func(block, *inputs)
            return checkpointed
        x: Tensor = block(*inputs)
        return x

    def _text(self, captions: Tensor, mask: Tensor | None, batch: int) -> tuple[Tensor, Tensor | None]:
        if captions.ndim == 4:
            captions = captions.squeeze(1)
        text = self.y_embedder(captions)  # (B, L, C)
        if mask is None:
            return text, None
        if batch % len(mask) or mask.shape[1:] != captions.shape[1:2]:
            raise OptionError(
                f"encoder_attention_mask has shape {tuple(mask.shape)}; expected {(batch, captions.shape[1])}"
            )
        mask = mask.repeat(batch // len(mask), 1)
        return text, (mask != 0)[:, None, None]

    def _unpatchify(self, x: Tensor, frames: int, rows: int, columns: int, latent: list[int]) -> Tensor:
        x = torch.unflatten(torch.unflatten(x, 1, (frames, rows, columns)), -1, (*self.patch_size, -1))
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)  # (B, out, T', pt, H', ph, W', pw)
        x = x.flatten(6, 7).flatten(4, 5).flatten(2, 3)
        return x[:, :, : latent[0], : latent[1], : latent[2]]  # without the padding


def _rounded(value: Tensor | float, dtype: torch.dtype) -> float:
    number = value if isinstance(value, Tensor) else torch.tensor(float(value))
    return float(number.flatten()[0].to(dtype))


def _of_rows(value: Tensor | float, batch: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(B,) in `dtype`, from one number or one per row."""
    return torch.as_tensor(value, device=device).to(dtype).flatten().expand(batch)


def _of_frames(mask: Tensor, batch: int, frames: int) -> Tensor:
    if tuple(mask.shape) != (batch, frames):
        raise OptionError(f"frame_mask has shape {tuple(mask.shape)}; expected {(batch, frames)}")
    return mask.bool()
