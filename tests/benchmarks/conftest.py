"""What the tests of the scripts in benchmarks/ share."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def script() -> Callable[[str], AbstractContextManager[ModuleType]]:
    """A script as a module, which finds its parts beside it; it and they are forgotten in the end."""

    @contextmanager
    def imported(name: str) -> Iterator[ModuleType]:
        sys.path.insert(0, str(SCRIPTS))
        try:
            yield importlib.import_module(name)
        finally:
            sys.path.remove(str(SCRIPTS))
            for module, loaded in list(sys.modules.items()):
                if (getattr(loaded, "__file__", None) or "").startswith(f"{SCRIPTS}/"):
                    del sys.modules[module]

    return imported
