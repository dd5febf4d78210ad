"""What all tests of the commands share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of known width; what the commands set in the environment is undone."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("CACHE_DIT_LOG_LEVEL", "error")
    for library in ("TRANSFORMERS", "DIFFUSERS"):
        monkeypatch.setenv(f"{library}_VERBOSITY", "error")
