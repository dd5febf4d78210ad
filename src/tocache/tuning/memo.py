"""What was measured so far, in a file, so that a tuning that was stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tocache.errors import OptionError
from tocache.tuning.refine import Steps

FORMAT = "tocache-trials"


class Memo:
    """Losses by full steps, written after each measurement.

    Args:
        path: None keeps all of it in memory.
        about: what the losses depend on; a file that holds others raises OptionError.
    """

    def __init__(self, path: Path | None, about: Mapping[str, Any]) -> None:
        self.path, self.about = path, dict(about)
        self.losses: dict[Steps, float] = {}
        if path is not None and path.exists():
            self._read(path)

    def loss(self, full: Steps, measure: Callable[[Steps], float]) -> float:
        """The loss of `full`, measured where it is not known."""
        if full not in self.losses:
            self.losses[full] = measure(full)
            self.save()
        return self.losses[full]

    def save(self) -> None:
        """Writes the file whole or not at all."""
        if self.path is None:
            return
        data = {
            "format": FORMAT,
            "about": self.about,
            "losses": [[list(full), loss] for full, loss in self.losses.items()],
        }
        fresh = self.path.with_name(f"{self.path.name}.new")
        fresh.write_text(json.dumps(data), encoding="utf-8")
        fresh.replace(self.path)

    def _read(self, path: Path) -> None:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] != FORMAT:
                raise ValueError(data["format"])
            losses = {tuple(map(int, full)): float(loss) for full, loss in data["losses"]}
            about = dict(data["about"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OptionError(f"{path} holds no trials of a tuning: {error}; delete it or name another file") from error
        for name, value in self.about.items():
            if about.get(name) != value:
                raise OptionError(
                    f"{path} holds trials with {name}={about.get(name)!r}, not {value!r}; delete it or name another"
                )
        self.losses = losses
