"""The cluster that workers are started on: found or made, and how many of them it has room for."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from typing import Any

from tocache.errors import OptionError
from tocache.models.architectures import one_line

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


@dataclass(frozen=True)
class Share:
    """What one worker reserves."""

    cpus: float
    gpus: float
    hide_gpus: bool  # it is to draw on a CPU, so it must not find a GPU that others have reserved

    def __str__(self) -> str:
        return f"{self.gpus:g} GPUs and {self.cpus:g} CPUs" if self.gpus else f"{self.cpus:g} CPUs"


def check_ray() -> None:
    """Raises OptionError where Ray is not installed."""
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise OptionError("this needs Ray: pip install 'tocache[ray]'") from error


def connect(address: str) -> bool:
    """Connects to a cluster, or starts one on this machine; True where `disconnect` has to end that.

    address  "auto": the cluster that runs here, else a new one; "local": a new one; else a cluster's address

    Raises OptionError where Ray is not installed, or no cluster answers.
    """
    check_ray()
    import ray

    if ray.is_initialized():
        return False
    # Ray counts its users over the network unless it is told not to; a run of pictures is nobody's business
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # the old behaviour warns that there is a new one; `Share.hide_gpus` needs neither
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with _Handlers():
        if address in ("auto", "local"):
            if address == "auto":
                try:
                    ray.init(address="auto", **QUIET)
                    return True
                except ConnectionError:
                    pass
            ray.init(address="local", include_dashboard=False, **QUIET)
            return True
        try:
            ray.init(address=address, **QUIET)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise OptionError(f"ray={address!r}: no cluster answers there: {one_line(error)}") from error
    return True


def disconnect() -> None:
    """Leaves a cluster, and ends it where `connect` started it."""
    import ray

    with _Handlers():
        ray.shutdown()


def share_of(gpus: float | None, device: str | None, threads: int | None) -> Share:
    """What a worker reserves: `gpus`, by default 1 where the cluster has any and `device` is not another one.

    A CPU's worker reserves its `threads`, by default those that torch takes in this process.
    """
    import torch

    on_gpu = device is None or device.startswith("cuda")
    if gpus is None:
        gpus = 1.0 if on_gpu and _in_all_nodes().get("GPU", 0) else 0.0
    cpus = 1.0 if gpus else float(threads or torch.get_num_threads())
    return Share(cpus, gpus, hide_gpus=not gpus and device is None)


def room_for(share: Share) -> int:
    """How many workers the cluster has room for now. Raises OptionError where it is none."""
    there = _in_all_nodes()
    found = {"CPU": share.cpus, "GPU": share.gpus}
    room = min(int(there.get(name, 0) / each) for name, each in found.items() if each)
    if room == 0:
        has = ", ".join(f"{there.get(name, 0):g} {name}s" for name in found)
        raise OptionError(
            f"the cluster has no room for a worker: one needs {share}, and all nodes together have {has}; "
            "with a number of workers the run waits for nodes that are still to come"
        )
    return room


def _in_all_nodes() -> dict[str, float]:
    import ray

    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return found


class _Handlers:
    """Puts back the handlers of signals that Ray replaces."""

    def __enter__(self) -> None:
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)
