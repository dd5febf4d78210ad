"""What the weights of DiT tell about its sizes, and what they do not; PixArt-α is a DiT-XL."""

from __future__ import annotations

import math

from tocache.checkpoints import sizes
from tocache.checkpoints.checks import StateDict
from tocache.errors import CheckpointError, OptionError

# Heads are reshaped out of the channels and leave no trace in the weights. DiT S, B, L and XL by hidden size
# (Peebles & Xie 2022, table 1); PixArt-α is XL.
_HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}


def heads(hidden: int, num_heads: int | None) -> int:
    """`num_heads` where given, the published count for this width otherwise.

    Raises OptionError where `num_heads` does not divide `hidden`, CheckpointError where the width was never
    published and `num_heads` is None.
    """
    if num_heads is None:
        if hidden not in _HEADS:
            known = ", ".join(map(str, _HEADS))
            raise CheckpointError(
                f"a hidden size of {hidden} is none of the published ones ({known}), and weights do not tell the "
                "number of attention heads: give num_heads="
            )
        return _HEADS[hidden]
    if num_heads < 1 or hidden % num_heads:
        raise OptionError(f"num_heads={num_heads} is not allowed; allowed: a divisor of the hidden size {hidden}")
    return num_heads


def sample_size(state: StateDict, patch: int, given: int | None) -> int:
    """Side of the latent in latent pixels: `given`, or from the number of rows of the position table `pos_embed`."""
    if given is not None:
        if given < 1 or given % patch:
            raise OptionError(f"sample_size={given} is not allowed; allowed: a multiple of the patch size {patch}")
        return given
    if "pos_embed" not in state:
        raise CheckpointError("the checkpoint lacks pos_embed, which tells the latent's size: give sample_size=")
    tokens = sizes.shape(state, "pos_embed", 3)[1]
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise CheckpointError(f"pos_embed has {tokens} tokens; expected a square number")
    return side * patch


def output_channels(state: StateDict, patch: int) -> int:
    """Channels of the model's output, predicted variances included, from the last layer's rows."""
    rows = sizes.shape(state, "final_layer.linear.weight", 2)[0]
    if rows % patch**2:
        raise CheckpointError(f"final_layer.linear.weight has {rows} rows; expected a multiple of {patch}²")
    return rows // patch**2
