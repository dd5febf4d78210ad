"""Token-wise feature caching for diffusion transformers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tocache.api import ManualRun, Trace, compile, disable, enable, enabled, report, run, tap, trace, watch
    from tocache.errors import (
        AttachError,
        CheckpointError,
        NotEnabledError,
        OptionError,
        PlanError,
        PlanFileError,
        PlanMismatchError,
        RunError,
        TocacheError,
        TocacheWarning,
        UnknownNameError,
        UnsupportedModelError,
    )
    from tocache.generation import Generated, generate
    from tocache.methods import (
        FORA,
        PAB,
        TAP,
        TGATE,
        ClusCa,
        Composed,
        DeltaDiT,
        DuCa,
        FreqCa,
        HiCache,
        Method,
        Newton,
        Planned,
        Spectrum,
        TaylorSeer,
        ToCa,
        Uncached,
    )
    from tocache.models.originals import load_original
    from tocache.plan import Plan, Policy, load_plan, save_plan
    from tocache.planning import plan_model
    from tocache.reports import Report

__all__ = [
    "FORA",
    "PAB",
    "TAP",
    "TGATE",
    "AttachError",
    "CheckpointError",
    "ClusCa",
    "Composed",
    "DeltaDiT",
    "DuCa",
    "FreqCa",
    "Generated",
    "HiCache",
    "ManualRun",
    "Method",
    "Newton",
    "NotEnabledError",
    "OptionError",
    "Plan",
    "PlanError",
    "PlanFileError",
    "PlanMismatchError",
    "Planned",
    "Policy",
    "Report",
    "RunError",
    "Spectrum",
    "TaylorSeer",
    "ToCa",
    "TocacheError",
    "TocacheWarning",
    "Trace",
    "Uncached",
    "UnknownNameError",
    "UnsupportedModelError",
    "__version__",
    "compile",
    "disable",
    "enable",
    "enabled",
    "generate",
    "load_original",
    "load_plan",
    "plan_model",
    "report",
    "run",
    "save_plan",
    "tap",
    "trace",
    "watch",
]

# Where each public name lives: it is imported when it is first used, so that `tocache --help` needs no torch.
_HOMES = {
    "api": ("ManualRun", "Trace", "compile", "disable", "enable", "enabled", "report", "run", "tap", "trace", "watch"),
    "errors": (*(name for name in __all__ if name.endswith(("Error", "Warning"))),),
    "generation": ("Generated", "generate"),
    "methods": (
        *("FORA", "PAB", "TAP", "TGATE", "ClusCa", "Composed", "DeltaDiT", "DuCa", "FreqCa", "HiCache", "Method"),
        *("Newton", "Planned", "Spectrum", "TaylorSeer", "ToCa", "Uncached"),
    ),
    "models.originals": ("load_original",),
    "plan": ("Plan", "Policy", "load_plan", "save_plan"),
    "planning": ("plan_model",),
    "reports": ("Report",),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    for module, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f"tocache.{module}"), name)
            return value
    raise AttributeError(f"module 'tocache' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("tocache")
    except PackageNotFoundError:  # the source tree itself, on a path
        return "0+unknown"
