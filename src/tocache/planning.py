"""Plans before any run: which method, which model, and what it would cost; no weights are needed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tocache.demo import DEMO_NAMES, load_demo
from tocache.errors import OptionError, PlanMismatchError, UnknownNameError
from tocache.methods import METHODS, Method, Planned
from tocache.methods.spec import make_method, parse_method
from tocache.models.architectures import meta_transformer
from tocache.models.base import ModelFamily
from tocache.models.costs import outside_weights, weights_read
from tocache.models.registry import family_of
from tocache.plan import (
    Anatomy,
    Pass,
    Plan,
    flops_planned,
    flops_scores,
    flops_uncached,
    lifetimes,
    load_plan,
    save_plan,
)
from tocache.plan.anatomy import IMAGE_FIRST, JOINT
from tocache.plan.roofline import Prediction, attaining, predict, processor_named
from tocache.presets import BALANCED, preset, preset_names, preset_steps
from tocache.reports import scores_text

# Short names of the dtypes that features may have; torch's own names are understood as well.
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


@dataclass(frozen=True)
class PlanSummary:
    """What a plan means and costs. FLOPs are 2 × multiply-accumulate of the whole run, all passes and rows."""

    model: str
    method: str
    rows: int  # batch of one pass, both guidance halves included
    passes: int
    steps: int
    steps_by_kind: dict[str, int]  # full, partial, reuse
    flops_uncached: int
    flops_planned: int
    flops_scores: int  # attention scores, on top
    cache_bytes: int  # at most, each feature counted once
    cache_bytes_device: int  # of those, on the device
    notes: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """FLOPs uncached ÷ FLOPs planned."""
        return self.flops_uncached / self.flops_planned


def method_from(
    name: str | None = None,
    *,
    interval: int | None = None,
    fresh_ratio: float | None = None,
    preset: str | None = None,
    plan: str | Path | None = None,
    resample: bool = False,
) -> Method | str | None:
    """The method that these options name: by name (`toca` where only its options are given), preset or plan file.

    A name may carry any of its method's options, as in `taylorseer:order=2:where=stack`.

    Returns a Method, the name of a preset (which is made a method when the model's family is known), or None where
    nothing is given: the default of the model at hand.

    Raises OptionError for options that exclude each other, that the method does not have or that are out of range;
    UnknownNameError, which lists what exists; PlanFileError where `plan` holds none.
    """
    options = {"interval": interval, "fresh_ratio": fresh_ratio}
    given = {option: value for option, value in options.items() if value is not None}
    ways = [way for way, value in (("method", name), ("preset", preset), ("plan", plan)) if value is not None]
    if len(ways) > 1:
        raise OptionError(f"{ways[0]} and {ways[1]} cannot be combined: give one of method, preset, plan")
    if ways and ways[0] != "method" and given:
        raise OptionError(f"{next(iter(given))} cannot be combined with {ways[0]}, which decides it already")
    if resample and plan is None:
        raise OptionError("resample stretches a plan to another number of steps: give a plan, too")
    if preset is not None:
        return check_preset(preset)
    if plan is not None:
        return Planned(load_plan(plan), resample=resample)
    if name is None and not given:
        return None
    return _method_named(name or "toca", given)


def check_preset(name: str) -> str:
    """`name`, if it is one of a preset. Raises UnknownNameError."""
    if name not in preset_names():
        raise UnknownNameError.of("preset", name, preset_names())
    return name


def usual_steps(method: Method | Plan | str | Path | None) -> int | None:
    """The number of steps that belongs to a preset or a plan; None for everything else."""
    if isinstance(method, str):
        return preset_steps(method)
    if isinstance(method, Planned):
        return method.given.steps
    return method.steps if isinstance(method, Plan) else None


def plan_model(
    model: str | Path,
    method: Method | str | None = None,
    *,
    steps: int | None = None,
    pictures: int = 1,
    guidance: float | None = None,
    dtype: str = "bf16",
    storage: str | None = None,
    offload: bool | None = None,
) -> Plan:
    """The plan for a model at its usual size, from its configuration alone.

    model     a known architecture (`ARCHITECTURES`), a demo, a folder in diffusers' format or a hub id
    method    a method, or the name of a preset; None is the default of the model's family
    steps     None: the preset's or plan's own, else the model's usual number
    pictures  pictures in one batch; guidance above 1 doubles the rows or the passes, as the model's does
    guidance  None: the model's usual scale
    dtype     of the features as the model computes them: bf16, fp16 or fp32
    storage   of the features as they are kept: same, int8 or fp8; offload: in the host's memory

    Raises UnknownNameError, OptionError, UnsupportedModelError, PlanMismatchError.
    """
    itemsize = 4 if dtype_name(dtype) == "float32" else 2
    check_count("pictures", pictures)
    family, anatomies = _resolve(model, pictures=pictures, guidance=guidance, itemsize=itemsize)
    count = (usual_steps(method) or family.default_steps) if steps is None else steps
    check_count("steps", count)
    return method_for(method, family.name).plan(anatomies, count).stored(storage=storage, offload=offload)


def plan_pipeline(
    pipe: Any, method: Method | str | None = None, *, steps: int | None = None, guidance: float | None = None
) -> Plan:
    """The plan for one picture or video of a loaded pipeline at its usual size; the rest is as in `plan_model`."""
    itemsize = pipe.transformer.dtype.itemsize
    family, anatomies = _anatomies(pipe, pipe.transformer, pictures=1, guidance=guidance, itemsize=itemsize)
    count = (usual_steps(method) or family.default_steps) if steps is None else steps
    check_count("steps", count)
    return method_for(method, family.name).plan(anatomies, count)


def method_for(method: Method | str | None, family: str) -> Method:
    """`method` itself, the method of the preset of that name, or the default of `family`. Raises as `preset` does."""
    if isinstance(method, Method):
        return method
    return preset(BALANCED if method is None else method, family)


def replan(plan: Plan, *, steps: int | None = None, resample: bool = False) -> Plan:
    """A loaded plan as it is, or stretched to another number of steps where `resample` allows it.

    Raises PlanMismatchError where it does not, OptionError for an impossible number.
    """
    if steps is None or steps == plan.steps:
        return plan
    check_count("steps", steps)
    if not resample:
        raise PlanMismatchError(f"the plan was made for {plan.steps} steps, not {steps}; resample stretches it")
    return plan.resampled(steps)


def write_plan(plan: Plan, path: str | Path) -> None:
    """Saves a plan as JSON. Raises OptionError where `path` cannot be written."""
    try:
        save_plan(plan, path)
    except OSError as error:
        raise OptionError(f"{path}: cannot be written: {error.strerror or error}") from error


def summarize(plan: Plan) -> PlanSummary:
    """The figures of a plan."""
    return PlanSummary(
        model=plan.anatomies[0].model,
        method=plan.method,
        rows=plan.anatomies[0].shape.rows,
        passes=plan.passes,
        steps=plan.steps,
        steps_by_kind=dict(Counter(plan.kind_of_step(step) for step in range(plan.steps))),
        flops_uncached=flops_uncached(plan),
        flops_planned=flops_planned(plan),
        flops_scores=flops_scores(plan),
        cache_bytes=lifetimes(plan).peak_bytes,
        cache_bytes_device=lifetimes(plan).peak_device_bytes,
        notes=plan.anatomies[0].notes,
    )


def predictions_on(plan: Plan, processor: str, attained: float | None = None) -> dict[str, Prediction]:
    """What a GPU would take for a plan; not measured. The first is the plan as it is; the others are called by how
    they differ: without attention scores, and also with modulations computed ahead where there are any.

    processor  its name in `PROCESSORS`; attained: the share of its peak that matrix products reach, None for all

    Raises UnknownNameError, OptionError.
    """
    limits = attaining(processor_named(processor), 1.0 if attained is None else attained)
    found = {"": predict(plan, limits), f"without {scores_text(plan)}": predict(plan, limits, scores=False)}
    if any(anatomy.ahead for anatomy in plan.anatomies):
        found["and with modulations ahead"] = predict(plan, limits, scores=False, ahead=True)
    return found


def dtype_name(dtype: str) -> str:
    """torch's name of a dtype: bf16 → bfloat16. Raises UnknownNameError."""
    name = DTYPES.get(dtype, dtype)
    if name not in DTYPES.values():
        raise UnknownNameError.of("dtype", dtype, DTYPES)
    return name


def check_count(field: str, value: object) -> None:
    """Raises OptionError where `value` is no integer of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise OptionError(f"{field}={value!r} is not allowed; allowed: an integer >= 1")


def check_guidance(value: float) -> float:
    """`value`, if it is a guidance scale. Raises OptionError."""
    if not 0 <= value < float("inf"):
        raise OptionError(f"guidance={value!r} is not allowed; allowed: a number >= 0")
    return value


def is_demo(model: str | Path) -> bool:
    """Whether `model` names a demo pipeline. Raises UnknownNameError for a name like one that none has."""
    if isinstance(model, str) and model.startswith("demo:"):
        if model not in DEMO_NAMES:
            raise UnknownNameError.of("demo", model, DEMO_NAMES)
        return True
    return False


def check_seed(seed: int) -> int:
    """`seed`, if torch's generators take it. Raises OptionError."""
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise OptionError(f"seed={seed!r} is not allowed; allowed: an integer from 0 to 2**63 - 1")
    return seed


def flops_text(flops: int) -> str:
    """FLOPs with the prefix that fits: 10.23 TFLOPs, 25.92 GFLOPs."""
    return f"{flops / 1e12:.4g} TFLOPs" if flops >= 1e12 else f"{flops / 1e9:.4g} GFLOPs"


def _method_named(text: str, given: dict[str, Any]) -> Method:
    name, options = parse_method(text, METHODS)
    return make_method(name, options | given, METHODS)


def _resolve(
    model: str | Path, *, pictures: int, guidance: float | None, itemsize: int
) -> tuple[ModelFamily, list[Anatomy]]:
    """The model's family, and the anatomy of each pass of a step at its usual size."""
    pipe = load_demo(str(model)) if is_demo(model) else None
    try:
        transformer = meta_transformer(model) if pipe is None else pipe.transformer
    except UnknownNameError as error:
        raise UnknownNameError(f"{error}; demos: {', '.join(DEMO_NAMES)}") from error
    return _anatomies(pipe, transformer, pictures=pictures, guidance=guidance, itemsize=itemsize)


def _anatomies(
    pipe: Any, transformer: Any, *, pictures: int, guidance: float | None, itemsize: int
) -> tuple[ModelFamily, list[Anatomy]]:
    family = family_of(transformer)
    scale = family.default_guidance if guidance is None else check_guidance(guidance)
    shapes = family.default_passes(transformer, pictures=pictures, guided=scale > 1, itemsize=itemsize)
    # FLUX keeps its usual size in the pipeline
    if side := getattr(pipe, "default_sample_size", None):
        shapes = tuple(_with_side(shape, side // 2) for shape in shapes)
    anatomies = [family.anatomy(transformer, shape) for shape in shapes]
    known = family.conditioned(transformer)
    paths = () if known is None else known.paths
    outside = outside_weights(transformer, anatomies[0].costs)
    ahead = min(outside, weights_read(transformer.get_submodule(path) for path in paths))
    return family, [replace(anatomy, outside=outside, ahead=ahead) for anatomy in anatomies]


def _with_side(shape: Pass, side: int) -> Pass:
    tokens = dict(shape.tokens, image=side * side)
    for joined in tokens.keys() & {JOINT, IMAGE_FIRST}:
        tokens[joined] = tokens["image"] + tokens["text"]
    return replace(shape, tokens=tokens, grid=(side, side))
