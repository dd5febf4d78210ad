"""What `demo:video` knows before its first clip: the transformer of `demo:text`, as Open-Sora began with PixArt-α's.

The spatial blocks of STDiT3 are PixArt-α's blocks under other names. With temporal blocks that add nothing yet, the
video model begins as the picture model, run on each frame alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from diffusers import PixArtTransformer2DModel
from torch import Tensor, nn

from tocache.errors import CheckpointError
from tocache.opensora import STDiT3Transformer3DModel

_LINEARS = {
    "adaln_single.emb.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "adaln_single.emb.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "adaln_single.linear": "t_block.1",
    "caption_projection.linear_1": "y_embedder.y_proj.fc1",
    "caption_projection.linear_2": "y_embedder.y_proj.fc2",
}
_BLOCK_LINEARS = {
    ("attn1.to_q", "attn1.to_k", "attn1.to_v"): "attn.qkv",
    ("attn1.to_out.0",): "attn.proj",
    ("attn2.to_q",): "cross_attn.q_linear",
    ("attn2.to_k", "attn2.to_v"): "cross_attn.kv_linear",
    ("attn2.to_out.0",): "cross_attn.proj",
    ("ff.net.0.proj",): "mlp.fc1",
    ("ff.net.2",): "mlp.fc2",
}


@torch.no_grad()
def begin_as_pictures(videos: STDiT3Transformer3DModel, pictures: PixArtTransformer2DModel, nothing: Tensor) -> None:
    """Give `videos` the weights of `pictures`, so that each frame of its velocity is that of a picture, negated.

    Rectified flow calls the way from noise to picture what flow matching calls the way back.

    Args:
        nothing: (caption channels,) the text encoder's output for no caption, of one token.

    Raises CheckpointError where the two are not alike in width, depth, patches or channels.
    """
    weights = dict(_spatial(pictures.state_dict(), len(pictures.transformer_blocks)))
    own = videos.state_dict()
    for name, tensor in weights.items():
        if name not in own or own[name].shape != tensor.shape:
            has = tuple(own[name].shape) if name in own else "nothing"
            raise CheckpointError(
                f"the picture model's {name} has shape {tuple(tensor.shape)}, the video model's has {has}; "
                "a video model that begins as pictures has their width, patches and channels, as many pairs of blocks "
                "as they have blocks, and no norm of queries and keys"
            )
    left = [name for name in own if name.startswith("spatial_blocks.") and name not in weights]
    if left:
        raise CheckpointError(f"the picture model has nothing for {left[0]}: its depth or its norms are others")
    videos.load_state_dict(weights, strict=False)
    videos.y_embedder.y_embedding.copy_(nothing)
    for layer in _outputs_of_time(videos):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


def _outputs_of_time(videos: Any) -> Iterator[nn.Linear]:
    """What the frames' rate and the temporal blocks give to the stream comes out of these."""
    yield videos.fps_embedder.mlp[2]
    for block in videos.temporal_blocks:
        yield from (block.attn.proj, block.cross_attn.proj, block.mlp.fc2)


def _spatial(pictures: Mapping[str, Tensor], depth: int) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of STDiT3 for all that a PixArt transformer of `depth` blocks has."""
    for part in ("weight", "bias"):
        for source, target in _LINEARS.items():
            yield f"{target}.{part}", pictures[f"{source}.{part}"]
        yield f"final_layer.linear.{part}", -pictures[f"proj_out.{part}"]
    yield "x_embedder.proj.weight", pictures["pos_embed.proj.weight"][:, :, None]  # a patch is one frame deep
    yield "x_embedder.proj.bias", pictures["pos_embed.proj.bias"]
    yield "final_layer.scale_shift_table", pictures["scale_shift_table"]
    for i in range(depth):
        block, to = f"transformer_blocks.{i}", f"spatial_blocks.{i}"
        yield f"{to}.scale_shift_table", pictures[f"{block}.scale_shift_table"]
        for part in ("weight", "bias"):
            for sources, target in _BLOCK_LINEARS.items():
                fused = [pictures[f"{block}.{source}.{part}"] for source in sources]
                yield f"{to}.{target}.{part}", torch.cat(fused)
