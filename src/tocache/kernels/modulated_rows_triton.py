"""`modulated_rows` in Triton: each program takes one token from the stream to the result, in registers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def modulated_rows_kernel(
    x, index, factor, shift, out, eps, count, width,
    x_b, x_n, x_c, i_b, i_k, f_b, f_c, s_b, s_c, C: tl.constexpr,
) -> None:  # fmt: skip
    """`out` (B, k, C) contiguous, of one token of one row."""
    b, j = tl.program_id(1), tl.program_id(0)
    c = tl.arange(0, C)
    inside = c < width
    token = tl.load(index + b * i_b + j * i_k)
    value = tl.load(x + b * x_b + token * x_n + c * x_c, inside, 0.0).to(tl.float32)
    mean = tl.sum(value, 0) / width
    centred = tl.where(inside, value - mean, 0.0)
    variance = tl.sum(centred * centred, 0) / width
    normed = centred / tl.sqrt(variance + eps)
    scaled = normed * tl.load(factor + b * f_b + c * f_c, inside, 0.0).to(tl.float32)
    moved = scaled + tl.load(shift + b * s_b + c * s_c, inside, 0.0).to(tl.float32)
    tl.store(out + (b * count + j) * width + c, moved.to(out.dtype.element_ty), inside)


def modulated_rows_triton(
    x: torch.Tensor, index: torch.Tensor, factor: torch.Tensor, shift: torch.Tensor, *, eps: float
) -> torch.Tensor:
    """`modulated_rows` with every default filled in: (B, k, C) in the dtype of `x`."""
    batch, count, width = x.shape[0], index.shape[1], x.shape[2]
    factor, shift = factor.expand(batch, 1, width), shift.expand(batch, 1, width)
    out = x.new_empty(batch, count, width)
    if out.numel():
        modulated_rows_kernel[count, batch](
            x, index, factor, shift, out, eps, count, width,
            *x.stride(), *index.stride(), factor.stride(0), factor.stride(2), shift.stride(0), shift.stride(2),
            C=triton.next_power_of_2(width),
        )  # fmt: skip
    return out
