"""What the options of the command mean: prompts or classes, and who draws."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tocache.errors import OptionError
from tocache.planning import check_count
from tocache.sampling.prompts import Prompts, read_classes, read_prompts
from tocache.sampling.sample import Start
from tocache.sampling.settings import Settings
from tocache.sampling.workers import Here


def choose_prompts(prompts: str | Path | None, classes: str | None, model: str | Path) -> Prompts:
    """The prompts of a file, or the classes of a model. Raises OptionError where not exactly one of both is given."""
    if (prompts is None) == (classes is None):
        raise OptionError("give what to draw: either prompts, a file, or classes, e.g. all")
    return read_prompts(prompts) if prompts is not None else read_classes(str(classes), model)


def choose_workers(
    settings: Settings,
    ray: str | None = None,
    *,
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    timeout: float | None = None,
) -> Start:
    """What starts the workers: this process where `ray` is None, else as many on Ray as are asked for, or fit.

    ray              "auto": the cluster that runs here, else a new one on this machine; "local": always a new one; else
                     a cluster's address
    gpus_per_worker  may be a fraction; None: 1 where the cluster has GPUs and the settings name no other device
    timeout          seconds without an answer after which a worker that draws counts as hung; None: 20 times what the
                     longest batch took, and at least 10 minutes

    Raises OptionError where Ray is not installed, or its options are given without it.
    """
    if ray is None:
        for name, value in (("workers", workers), ("gpus_per_worker", gpus_per_worker), ("timeout", timeout)):
            if value is not None:
                raise OptionError(f"{name} is for Ray: give ray as well, e.g. auto")
        return Here
    if workers is not None:
        check_count("workers", workers)
    if gpus_per_worker is not None and not 0 <= gpus_per_worker < float("inf"):
        raise OptionError(f"gpus_per_worker={gpus_per_worker!r} is not allowed; allowed: a number >= 0")
    if timeout is not None and not 0 < timeout < float("inf"):
        raise OptionError(f"timeout={timeout!r} is not allowed; allowed: a number of seconds > 0")
    from tocache.sampling.on_ray import OnRay
    from tocache.sampling.ray_cluster import check_ray

    check_ray()
    return partial(
        OnRay,
        address=ray,
        count=workers,
        gpus=gpus_per_worker,
        device=settings.device,
        threads=settings.threads,
        timeout=timeout,
    )
