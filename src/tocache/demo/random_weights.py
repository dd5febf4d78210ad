"""Random weights that make an untrained diffusion transformer behave like a trained one.

Freshly initialised transformers are a poor thing to cache: many start with gates or outputs near zero, their features
jump from one step to the next, and sampling with them diverges. The weights drawn here keep four properties of a
trained model, and no other:

* every gate is open, so that each sub-layer contributes;
* modulation follows the time smoothly, so that features of neighbouring steps are close;
* attention is sharper than uniform, so that attention-based scores differ between tokens;
* the output is k · (x − g), with x the noisy input and g what the blocks made of it. Read as a velocity it pulls x
  towards g, which keeps x bounded over any number of steps and lets small errors die out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from diffusers.models.embeddings import PatchEmbed, TimestepEmbedding
from torch import Tensor, nn

Modulation = Literal["shift", "scale", "gate"]

_GATE = 0.6  # mean of a gate in a model of `_GATE_DEPTH` blocks
_GATE_DEPTH = 12
_LOGIT_STD = 2.0  # of attention logits, before softmax, for inputs of unit variance
_TIME_STD = 0.25  # of time embeddings: PixArt's head adds them to 1 + scale as they are
_CLASS_STD = 0.12  # of class embeddings; guidance multiplies what they change
_MODULATION_GAIN = 1.6  # brings silu(embedding) to modulations of about 0.2
_MODULATION_STD = 0.2  # of the part of the modulation that does not depend on time
_INPUT_SHARE = 0.7  # sets the standard deviation of the embedded input; position embeddings have up to 0.7
_PULL = 2.0  # k above, before the last norm divides it by the standard deviation of the features
_TIME_SCALE = 250.0  # training steps over which the time embedding turns by one radian


@contextmanager
def seeded(seed: int) -> Iterator[torch.Generator]:
    """Make CPU modules built inside depend on `seed` only, and leave torch's global generators as they were.

    Yields the generator for weights that are drawn by hand.
    """
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would seed the accelerators too, which fork_rng(devices=[]) does not restore.
        torch.default_generator.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


@torch.no_grad()
def fill_linear(linear: nn.Linear, generator: torch.Generator, std: float = 1.0, bias_std: float = 0.0) -> None:
    """Draw weights that turn inputs of unit variance into outputs of standard deviation `std`.

    Each row sums to zero: what all inputs have in common (the mean of a GELU, say) would be the same for all tokens,
    add up over the blocks and in the end drown what tells the tokens apart.
    """
    linear.weight.normal_(0.0, std / math.sqrt(linear.in_features), generator=generator)
    linear.weight.sub_(linear.weight.mean(dim=1, keepdim=True))
    if linear.bias is not None:
        linear.bias.normal_(0.0, bias_std, generator=generator)


@torch.no_grad()
def fill_embedding(table: nn.Embedding, generator: torch.Generator) -> None:
    """Draw class embeddings, somewhat smaller than the time embeddings that they are added to."""
    table.weight.normal_(0.0, _CLASS_STD, generator=generator)


def fill_body(model: nn.Module, generator: torch.Generator) -> None:
    """Draw all linear layers of `model` with unit gain, then sharpen its attention and calm its time embeddings."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            is_query_or_key = name.rpartition(".")[2] in {"to_q", "to_k", "add_q_proj", "add_k_proj"}
            fill_linear(module, generator, math.sqrt(_LOGIT_STD) if is_query_or_key else 1.0, bias_std=0.1)
    for module in model.modules():
        if isinstance(module, TimestepEmbedding):
            fill_time_embedding(module.linear_1, module.linear_2, generator)
        if type(module).__name__ == "RMSNorm" and module.weight is not None:
            # The norms of queries and keys, in models that have them: there the gain of to_q and to_k is lost.
            nn.init.constant_(module.weight, math.sqrt(_LOGIT_STD))


@torch.no_grad()
def fill_time_embedding(first: nn.Linear, last: nn.Linear, generator: torch.Generator) -> None:
    """Make an embedding of sinusoids by two layers smooth in time: frequencies far from 1/`_TIME_SCALE` weigh little.

    Expects diffusers' sinusoids: (cos f₁t … cos fₙt, sin f₁t … sin fₙt) with fᵢ = 10000^(−(i−1)/n).
    """
    half = first.in_features // 2
    turns = _TIME_SCALE * 10000.0 ** (-torch.arange(half) / half)  # (half,), radians per `_TIME_SCALE` steps
    share = turns / (1.0 + turns**2)
    share = (share / share.square().mean().sqrt()).repeat(2)  # (in_features,), mean square 1
    # √2: a sinusoid has variance one half.
    fill_linear(first, generator, std=math.sqrt(2.0), bias_std=0.1)
    first.weight.mul_(share)
    fill_linear(last, generator, std=_TIME_STD * math.sqrt(2.0))


@torch.no_grad()
def fill_modulation(linear: nn.Linear, kinds: tuple[Modulation, ...], depth: int, generator: torch.Generator) -> None:
    """Draw an adaLN layer (width → len(kinds) · width) whose output holds the chunks `kinds`, in that order."""
    fill_linear(linear, generator, std=_MODULATION_GAIN)
    for chunk, kind in zip(linear.bias.chunk(len(kinds)), kinds, strict=True):
        fill_offset(chunk, kind, depth, generator)


@torch.no_grad()
def fill_offset(offset: Tensor, kind: Modulation, depth: int, generator: torch.Generator) -> None:
    """Draw in place the part of a modulation that is the same at all times."""
    offset.normal_(0.0, _MODULATION_STD, generator=generator)
    if kind == "gate":
        # The branches of all blocks together are to weigh the same next to the input, whatever the depth.
        offset.add_(_GATE).mul_(math.sqrt(_GATE_DEPTH / depth))


@torch.no_grad()
def tie_ends(embed: nn.Conv2d | nn.Conv3d | nn.Linear, head: nn.Linear, generator: torch.Generator) -> None:
    """Let the head's first channels read the input back out of the features: the k · x of this module's docstring.

    Args:
        embed: what turns patches of 2 × 2 latents into features; a convolution, or a linear layer for patches that
            are packed already (channel, row, column).
        head: features → patches, packed as (row, column, channel) after a convolution and as the input otherwise;
            channels beyond the input's (a learned variance) get small random weights.
    """
    width, inputs = head.in_features, embed.weight[0].numel()
    channels = inputs // 4
    # Orthonormal columns where width allows: the transpose then reads back x alone.
    basis = nn.init.orthogonal_(torch.empty(width, inputs), generator=generator).view(width, channels, 4)
    # Within a patch, x is split into its mean and three details (Haar). The blocks' contribution g, read out with one
    # over the amplitude, is weaker in the details: a g that repeats in every patch would tile the picture.
    haar = 0.5 * torch.tensor([[1.0, 1.0, 1.0, 1.0], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
    amplitude = _INPUT_SHARE * math.sqrt(width / inputs) * torch.tensor([0.6, 1.8, 1.8, 1.8])
    embed.weight.copy_((basis * amplitude @ haar).reshape(embed.weight.shape))
    readout = _PULL * (basis / amplitude @ haar)  # (width, channels, 4)
    fill_linear(head, generator, std=0.2)
    if isinstance(embed, (nn.Conv2d, nn.Conv3d)):
        head.weight.view(4, -1, width)[:, :channels] = readout.permute(2, 1, 0)
    else:
        head.weight.copy_(readout.reshape(width, inputs).T)
    for layer in (embed, head):
        if layer.bias is not None:
            layer.bias.zero_()


@torch.no_grad()
def centre_positions(embed: PatchEmbed) -> None:
    """Let the patch embedding's bias cancel the mean of the position embeddings, which all tokens share."""
    embed.proj.bias.copy_(-embed.pos_embed[0].mean(dim=0))
