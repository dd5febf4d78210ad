"""Memory that the cache takes on the device, beside what its plan states."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

import tocache
from on_gpu.jobs import Job, Options
from on_gpu.pipelines import Subject
from tocache.plan import lifetimes

STORAGES = ("same", "int8", "fp8", "host")
COLUMNS = (
    *("row", "model", "method", "rows", "dtype", "storage"),
    *("peak_uncached", "peak_cached", "over", "planned", "planned_device", "held", "held_device"),  # bytes
)


def jobs(subject: Subject, options: Options) -> list[Job]:
    """One row for each way to keep features."""
    labels = {"row": subject.target.name, "model": subject.target.architecture}
    labels["dtype"] = str(subject.dtype).removeprefix("torch.")
    return [Job({**labels, "storage": storage}, partial(_measure, subject, storage)) for storage in STORAGES]


def _measure(subject: Subject, storage: str) -> dict[str, Any]:
    uncached = _peak(subject.plain, subject)
    how: dict[str, Any] = {"offload": True} if storage == "host" else {"storage": storage}
    with tocache.enabled(subject.cached, subject.target.preset, **how):
        cached = _peak(subject.cached, subject)
        report = tocache.report(subject.cached)
    assert report.plan is not None
    planned = lifetimes(report.plan)
    figures: dict[str, Any] = {
        "method": report.method,
        "rows": report.rows,
        "planned": planned.peak_bytes,
        "planned_device": planned.peak_device_bytes,
        "held": report.cache_bytes_peak,
        "held_device": report.cache_bytes_device_peak,
    }
    if uncached is not None and cached is not None:
        figures |= {"peak_uncached": uncached, "peak_cached": cached}
        figures["over"] = cached - uncached
    return figures


def _peak(pipe: Any, subject: Subject) -> int | None:
    """Most bytes allocated during a call, weights included; None where the device does not tell.

    A first call is not looked at: what it makes once, such as the workspaces of libraries, stays.
    """
    pipe(**subject.arguments())
    if subject.device.type != "cuda":
        return None
    torch.cuda.synchronize(subject.device)
    torch.cuda.reset_peak_memory_stats(subject.device)
    pipe(**subject.arguments())
    return int(torch.cuda.max_memory_allocated(subject.device))
