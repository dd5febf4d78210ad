"""One feature as it is kept: in its own dtype, or in 8 bits a number with one scale for each token."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from tocache.kernels import scatter_rows

EIGHT_BITS = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}


@dataclass(slots=True)
class Packed:
    """A feature (rows, tokens, width) of `dtype`.

    With a scale (rows, tokens, 1) float32, `data` holds 8 bits a number and the feature is data · scale. The scale is
    a token's own because tokens are what is replaced: a fresh token brings its scale along.
    """

    data: torch.Tensor
    scale: torch.Tensor | None
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return self.data.nbytes + (0 if self.scale is None else self.scale.nbytes)

    @property
    def device(self) -> torch.device:
        return self.data.device

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """What has to move when the feature moves."""
        return (self.data,) if self.scale is None else (self.data, self.scale)


def pack(value: torch.Tensor, storage: str) -> Packed:
    """`value` (rows, tokens, width) as `storage` keeps it: "same" (the tensor itself), "int8" or "fp8" (e4m3).

    A token's largest number becomes the largest that 8 bits hold, so int8 is off by at most 1/254 of it, and fp8 by
    1/16 of each number.
    """
    if storage == "same":
        return Packed(value, None, value.dtype)
    kind = EIGHT_BITS[storage]
    limit = torch.iinfo(kind).max if kind == torch.int8 else torch.finfo(kind).max
    largest = value.abs().amax(dim=-1, keepdim=True).float()  # (rows, tokens, width) -> (rows, tokens, 1)
    scale = torch.where(largest > 0, largest / limit, torch.ones_like(largest))
    scaled = value.float() / scale
    return Packed(
        (scaled.round_() if kind == torch.int8 else scaled).clamp_(-limit, limit).to(kind), scale, value.dtype
    )


def unpack(packed: Packed) -> torch.Tensor:
    """The feature (rows, tokens, width); the stored tensor itself where it is kept in its own dtype."""
    if packed.scale is None:
        return packed.data
    return (packed.data.float() * packed.scale).to(packed.dtype)


def may_change(tensor: torch.Tensor) -> bool:
    """Whether `tensor` may be changed in place: autograd may still need it as it was, or have it in inference mode."""
    return torch.is_inference_mode_enabled() or not (torch.is_grad_enabled() or tensor.is_inference())


def put_rows(packed: Packed, rows: torch.Tensor, index: torch.Tensor) -> Packed:
    """`packed` with `rows` (B, k, width) as its tokens `index` (B, k); in place where that is allowed."""
    into = packed if may_change(packed.data) else replace(packed, data=packed.data.clone(), scale=_clone(packed.scale))
    if into.scale is None:
        scatter_rows(into.data, rows, index)
        return into
    new = pack(rows, "int8" if into.data.dtype == torch.int8 else "fp8")
    assert new.scale is not None
    # indexing knows no 8-bit floats on every device; as bytes they are moved everywhere
    scatter_rows(into.data.view(torch.uint8), new.data.view(torch.uint8), index)
    scatter_rows(into.scale, new.scale, index)
    return into


def _clone(scale: torch.Tensor | None) -> torch.Tensor | None:
    return None if scale is None else scale.clone()


def alone(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` without what shares its memory, such as the queries of a fused projection, which would be kept too."""
    tensor = tensor.detach()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
