"""Token-wise feature caching for diffusion transformers."""

from importlib.metadata import PackageNotFoundError, version

from tocache.api import ManualRun, Trace, disable, enable, enabled, report, run, trace, watch
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
from tocache.methods import FORA, Method, Planned, ToCa, Uncached
from tocache.plan import Plan, Policy, load_plan, save_plan
from tocache.report import Report

try:
    __version__ = version("tocache")
except PackageNotFoundError:  # the source tree itself, on a path
    __version__ = "0+unknown"

__all__ = [
    "FORA",
    "AttachError",
    "CheckpointError",
    "ManualRun",
    "Method",
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
    "ToCa",
    "TocacheError",
    "TocacheWarning",
    "Trace",
    "Uncached",
    "UnknownNameError",
    "UnsupportedModelError",
    "__version__",
    "disable",
    "enable",
    "enabled",
    "load_plan",
    "report",
    "run",
    "save_plan",
    "trace",
    "watch",
]
