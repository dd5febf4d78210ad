"""Everything that tocache raises on purpose.

TocacheError
├── OptionError          a value or a name that is not allowed        (also a ValueError)
│   └── UnknownNameError   a preset, method, model or score nobody knows
├── UnsupportedModelError  no family for this transformer's class      (also a TypeError)
├── AttachError          the model's modules are not where its family says
├── NotEnabledError      asked about a model on which nothing is enabled
├── PlanError            a plan that cannot be
│   ├── PlanFileError      a file that holds no plan, or one of another version
│   └── PlanMismatchError  a plan made for another model, token count or number of steps
├── RunError             a hand-written loop that breaks the rules of a run, or a model in training
├── CheckpointError      an original checkpoint that does not fit       (also a ValueError)
├── SamplesError         a folder of samples that cannot be read or continued
└── SamplingError        a sampling run that cannot go on: its workers fail, or too many prompts

TocacheWarning           the one category of every warning (also a UserWarning)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TocacheError(Exception):
    """Base of every error that tocache raises on purpose."""


class OptionError(TocacheError, ValueError):
    """A value out of its range, or an option that does not exist."""


class UnknownNameError(OptionError):
    """A name (preset, method, model, score) that is not in its registry."""

    @classmethod
    def of(cls, what: str, name: str, known: Iterable[str]) -> UnknownNameError:
        """The error for `name`, with the nearest known names first and all of them after."""
        known = sorted(known)
        hint = nearest(name, known)
        return cls(f"unknown {what} {name!r}{hint}{'' if hint else ';'} known: {', '.join(known) or 'none'}")


class UnsupportedModelError(TocacheError, TypeError):
    """No model family knows this transformer's class."""


class AttachError(TocacheError):
    """A module is not where the model's family says it is."""


class NotEnabledError(TocacheError):
    """The pipeline or transformer has no cache enabled."""


class PlanError(TocacheError):
    """A plan that contradicts itself or its model."""


class PlanFileError(PlanError):
    """A file that is not a plan, or a plan of a version that this release cannot read."""


class PlanMismatchError(PlanError):
    """A plan made for another model, another number of tokens or another number of steps."""


class RunError(TocacheError):
    """A hand-written loop that steps past its run's end, in another thread, or opens a run in a run; training mode."""


class CheckpointError(TocacheError, ValueError):
    """An original checkpoint whose keys or shapes are not those of its model."""


class SamplesError(TocacheError):
    """A folder of samples that is broken, in use, not finished, or was made with another configuration."""


class SamplingError(TocacheError):
    """A sampling run that cannot go on: its workers fail again and again, or too many of its prompts do."""


class TocacheWarning(UserWarning):
    """Category of every warning that tocache gives."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint `; did you mean 'x'?` for the known name closest to `name`, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
