"""Fewer steps: with the pipeline's own solver, and with a better multistep one in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from tocache.errors import OptionError
from tocache.evaluation.contenders import STEPS, Contender, Use
from tocache.evaluation.peers.base import Draw, Peer


def _own(pipe: Any, steps: int, draw: Draw) -> Sequence[Contender]:
    return [_with("fewer-steps", count, steps) for count in range(steps - 1, 0, -1)]


def _with(curve: str, count: int, steps: int, use: Use | None = None) -> Contender:
    arguments = {"num_inference_steps": count}
    # the model is called alike in every step, so the steps are the FLOPs
    contender = Contender(curve, f"{count} steps", STEPS, arguments=arguments, ratio=steps / count)
    return contender if use is None else Contender(curve, contender.setting, STEPS, use, arguments, contender.ratio)


def _other(name: str, make: Callable[[Any], Any], pipe: Any, steps: int, draw: Draw) -> Sequence[Contender]:
    make(pipe.scheduler)  # fails here where it cannot be made of this one
    return [_with(name, count, steps, partial(_solver, make)) for count in range(steps, 0, -1)]


@contextmanager
def _solver(make: Callable[[Any], Any], pipe: Any) -> Iterator[None]:
    own = pipe.scheduler
    pipe.scheduler = make(own)
    try:
        yield
    finally:
        pipe.scheduler = own


def _dpm_solver(scheduler: Any) -> Any:
    """DPM-Solver++ (Lu et al., arXiv 2211.01095) of order 3, on the noise schedule of `scheduler`."""
    from diffusers import DPMSolverMultistepScheduler

    more = {"algorithm_type": "dpmsolver++", "solver_order": 3, "solver_type": "midpoint"}
    return DPMSolverMultistepScheduler.from_config(_schedule(scheduler), **more)


def _unipc(scheduler: Any) -> Any:
    """UniPC (Zhao et al., arXiv 2302.04867) of order 2, as its authors advise under guidance."""
    from diffusers import UniPCMultistepScheduler

    return UniPCMultistepScheduler.from_config(_schedule(scheduler), solver_order=2, solver_type="bh2")


def _schedule(scheduler: Any) -> dict[str, Any]:
    """The noise schedule and the prediction of a scheduler, in the terms of the multistep solvers."""
    config = dict(getattr(scheduler, "config", {}))
    if "shift" in config:  # flow matching, which has no betas
        flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": config["shift"]}
        return {name: value for name, value in config.items() if not name.startswith("_")} | flow
    if "num_train_timesteps" not in config:
        raise OptionError(f"{type(scheduler).__name__} tells no noise schedule that another solver could take over")
    return {name: value for name, value in config.items() if not name.startswith("_")}


FEWER_STEPS = Peer("fewer-steps", "the pipeline's own scheduler", _own)
DPM_SOLVER = Peer("dpm-solver", "diffusers, DPMSolverMultistepScheduler", partial(_other, "dpm-solver", _dpm_solver))
UNIPC = Peer("unipc", "diffusers, UniPCMultistepScheduler", partial(_other, "unipc", _unipc))
