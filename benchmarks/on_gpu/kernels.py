"""Each kernel at the models' shapes: against a reference in float64, and how long it takes beside attention itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from on_gpu.jobs import Job, Options
from on_gpu.table import spread, spread_columns
from tocache.kernels import (
    COLUMN_SUMS,
    ENTROPY,
    GATED_RESIDUAL,
    MODULATED_ROWS,
    SPREAD_SCORES,
    Backends,
    attention_column_sums,
    attention_entropy,
    attention_with_column_sums,
    gated_residual,
    gather_rows,
    modulated_rows,
    scatter_rows,
    spread_scores,
)
from tocache.kernels.backends import runs_triton

COLUMNS = (
    *("operation", "backend", "shape", "batch", "heads", "queries", "keys", "channels", "dtype"),
    *("worst_error", "mean_error", "runs"),
    *spread_columns("ms"),
    "gb_per_second",
)
_BLOCK = 256  # queries of which the reference holds the map at a time
_SAMPLED = 256  # queries of the estimate
_FRESH = 10  # of so many tokens one is gathered


@dataclass(frozen=True)
class Shape:
    """An attention as a model has it: (batch, heads, queries, channels) over `keys`."""

    name: str
    batch: int
    heads: int
    queries: int
    keys: int
    channels: int


SHAPES = (
    Shape("pixart-1024 self", 2, 16, 4096, 4096, 72),
    Shape("pixart-1024 text", 2, 16, 4096, 120, 72),
    Shape("flux-1024 joint", 1, 24, 4608, 4608, 128),
    Shape("opensora-480p text", 2, 16, 23850, 300, 72),
    Shape("dit-512 self", 2, 16, 1024, 1024, 72),
    Shape("dit-256 self", 8, 16, 256, 256, 72),
    Shape("odd", 3, 5, 1031, 773, 40),
)
TINY = (Shape("tiny self", 2, 2, 17, 17, 8), Shape("tiny text", 1, 3, 19, 7, 8))


def jobs(device: torch.device, dtype: torch.dtype, options: Options) -> list[Job]:
    """One row for each operation, implementation and shape."""
    found = []
    for shape in TINY if options.tiny else SHAPES:
        labels = {"shape": shape.name, "dtype": str(dtype).removeprefix("torch.")}
        labels |= {name: getattr(shape, name) for name in ("batch", "heads", "queries", "keys", "channels")}
        for operation, backend, measure in _operations(shape, device):
            run = partial(measure, _Case(shape, device, dtype, options))
            found.append(Job({**labels, "operation": operation, "backend": backend}, run))
    return found


class _Case:
    """Queries, keys and values of one shape, made when they are first asked for."""

    def __init__(self, shape: Shape, device: torch.device, dtype: torch.dtype, options: Options) -> None:
        self.shape, self.device, self.dtype, self.options = shape, device, dtype, options

    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator(self.device).manual_seed(0)
        made = []
        for length in (self.shape.queries, self.shape.keys, self.shape.keys):
            size = (self.shape.batch, self.shape.heads, length, self.shape.channels)
            made.append(torch.randn(size, device=self.device, generator=generator).to(self.dtype))
        query, key, value = made
        return query, key, value

    def milliseconds(self, run: Callable[[], Any]) -> list[float]:
        """Of single calls, after some that are not timed."""
        runs = 3 if self.options.tiny else 20
        for _ in range(3):
            run()
        if self.device.type != "cuda":
            return [_seconds(run) * 1e3 for _ in range(runs)]
        marks: list[Any] = [torch.cuda.Event(enable_timing=True) for _ in range(2 * runs)]
        for start, end in zip(marks[::2], marks[1::2], strict=True):
            start.record()
            run()
            end.record()
        torch.cuda.synchronize(self.device)
        return [float(start.elapsed_time(end)) for start, end in zip(marks[::2], marks[1::2], strict=True)]


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _operations(shape: Shape, device: torch.device) -> list[tuple[str, str, Callable[[_Case], dict[str, Any]]]]:
    found: list[tuple[str, str, Callable[[_Case], dict[str, Any]]]] = [("attention", "torch", _attention)]
    if shape.queries == shape.keys:
        found += [("column sums", name, partial(_column_sums, name)) for name in _can_run(COLUMN_SUMS, device)]
        found += [
            ("column sums, sampled", name, partial(_sampled_sums, name)) for name in _can_run(COLUMN_SUMS, device)
        ]
        found.append(("attention with column sums", "auto", _both))
        found += [("gather rows", "torch", _gather), ("scatter rows", "torch", _scatter)]
        for name in _can_run(MODULATED_ROWS, device):
            found.append(("gather, normalise, modulate", name, partial(_modulated, name)))
        for name in _can_run(GATED_RESIDUAL, device):
            found.append(("scatter, gate, add", name, partial(_gated, name)))
        for name in _can_run(SPREAD_SCORES, device):
            found.append(("age and spread", name, partial(_spread_scores, name)))
    else:
        found += [("entropy", name, partial(_entropy, name)) for name in _can_run(ENTROPY, device)]
    return found


def _can_run(backends: Backends[Any], device: torch.device) -> list[str]:
    return [name for name in backends.names if name != "triton" or runs_triton(device)]


def _attention(case: _Case) -> dict[str, Any]:
    query, key, value = case.inputs()
    exact = torch.cat([p @ value.double() for p in _probabilities(query, key)], dim=2)
    return _figures(case, exact, lambda: F.scaled_dot_product_attention(query, key, value), _bytes(query, key, value))


def _column_sums(backend: str, case: _Case) -> dict[str, Any]:
    query, key, _ = case.inputs()
    exact = _exact_sums(query, key)
    return _figures(case, exact, lambda: attention_column_sums(query, key, backend=backend), _bytes(query, key))


def _sampled_sums(backend: str, case: _Case) -> dict[str, Any]:
    query, key, _ = case.inputs()
    index = torch.randperm(case.shape.queries, device=case.device)[:_SAMPLED]
    exact = _exact_sums(query, key)  # the error is that of the estimate, not of the arithmetic
    run = partial(attention_column_sums, query, key, query_index=index, backend=backend)
    return _figures(case, exact, run, _bytes(query[:, :, :_SAMPLED], key))


def _both(case: _Case) -> dict[str, Any]:
    query, key, value = case.inputs()
    exact = _exact_sums(query, key)
    run = partial(attention_with_column_sums, query, key, value)
    return _figures(case, exact, run, _bytes(query, key, value), take=1)


def _entropy(backend: str, case: _Case) -> dict[str, Any]:
    query, key, _ = case.inputs()
    means = [p.mean(dim=1) for p in _probabilities(query, key)]  # (B, block, keys)
    exact = torch.cat([-(p * torch.log(p + 1e-7)).sum(dim=-1) for p in means], dim=1)
    return _figures(case, exact, lambda: attention_entropy(query, key, backend=backend), _bytes(query, key))


def _gather(case: _Case) -> dict[str, Any]:
    stream, index, _ = _rows(case)
    exact = stream.double().gather(1, index[..., None].expand(*index.shape, stream.shape[-1]))
    rows = exact.numel() * stream.element_size()
    return _figures(case, exact, lambda: gather_rows(stream, index), 2 * rows)


def _scatter(case: _Case) -> dict[str, Any]:
    stream, index, rows = _rows(case)
    exact = stream.double().scatter(1, index[..., None].expand_as(rows), rows.double())
    return _figures(case, exact, lambda: scatter_rows(stream, rows, index), 2 * rows.nbytes)


def _modulated(backend: str, case: _Case) -> dict[str, Any]:
    stream, index, _ = _rows(case)
    factor, shift = stream[:, :1] + 1, stream[:, 1:2]
    fresh = stream.double().gather(1, index[..., None].expand(*index.shape, stream.shape[-1]))
    exact = F.layer_norm(fresh, fresh.shape[-1:], eps=1e-6) * factor.double() + shift.double()
    run = partial(modulated_rows, stream, index, factor, shift, eps=1e-6, backend=backend)
    return _figures(case, exact, run, 2 * exact.numel() * stream.element_size())


def _gated(backend: str, case: _Case) -> dict[str, Any]:
    stream, index, rows = _rows(case)
    feature, gate = stream.flip(1).contiguous(), stream[:, :1].contiguous()
    put = feature.double().scatter(1, index[..., None].expand_as(rows), rows.double())
    exact = stream.double() + gate.double() * put
    run = partial(gated_residual, stream, gate, feature, rows, index, backend=backend)
    return _figures(case, exact, run, 3 * stream.nbytes + 2 * rows.nbytes)


def _spread_scores(backend: str, case: _Case) -> dict[str, Any]:
    tokens = case.shape.queries
    side = math.isqrt(tokens)
    generator = torch.Generator(case.device).manual_seed(0)
    score = torch.rand(case.shape.batch, tokens, device=case.device, generator=generator)
    age = torch.randint(0, 3, score.shape, device=case.device, generator=generator, dtype=torch.int32)
    # the tokens behind the largest square belong to no cell, like those of a text
    options: dict[str, Any] = {"staleness": 0.25, "interval": 3, "size": 2, "bonus": 0.6}
    exact = spread_scores(score.double(), age, (side, side), **options, backend="torch")
    run = partial(spread_scores, score, age, (side, side), **options, backend=backend)
    return _figures(case, exact, run, 2 * score.nbytes + age.nbytes)


def _rows(case: _Case) -> tuple[Tensor, Tensor, Tensor]:
    """A stream (B, N, C), some of its tokens (B, k), and others to put in their places (B, k, C)."""
    query, key, _ = case.inputs()
    stream, other = (x.transpose(1, 2).flatten(2).contiguous() for x in (query, key))
    count = max(1, case.shape.queries // _FRESH)
    draws = [torch.randperm(case.shape.queries, device=case.device)[:count] for _ in range(case.shape.batch)]
    return stream, torch.stack(draws), other[:, :count].contiguous()


def _probabilities(query: Tensor, key: Tensor) -> Any:
    """The attention map in float64, some queries at a time: (B, H, block, keys)."""
    for start in range(0, query.shape[2], _BLOCK):
        block = query[:, :, start : start + _BLOCK].double() * query.shape[-1] ** -0.5
        yield torch.softmax(block @ key.double().transpose(2, 3), dim=-1)


def _exact_sums(query: Tensor, key: Tensor) -> Tensor:
    return torch.stack([p.sum(dim=2).mean(dim=1) for p in _probabilities(query, key)]).sum(dim=0)  # (B, keys)


def _bytes(*tensors: Tensor) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _figures(
    case: _Case, exact: Tensor, run: Callable[[], Any], moved: int, *, take: int | None = None
) -> dict[str, Any]:
    """Errors against `exact`, as shares of its mean size, and times; `moved` are the bytes that a call must read."""
    given = run()
    value = given if take is None else given[take]
    off = (value.double() - exact).abs() / exact.abs().mean()
    milliseconds = case.milliseconds(run)
    return {
        "worst_error": f"{float(off.max()):.3g}",
        "mean_error": f"{float(off.mean()):.3g}",
        "runs": len(milliseconds),
        **spread("ms", milliseconds, 5),
        "gb_per_second": round(moved / (sorted(milliseconds)[len(milliseconds) // 2] * 1e6), 2),
    }
