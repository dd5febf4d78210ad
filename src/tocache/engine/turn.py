"""Whose turn it is with a transformer: one run at a time, whichever pipelines and threads share it."""

from __future__ import annotations

import threading
from types import TracebackType
from weakref import WeakKeyDictionary

import torch


class Turn:
    """A lock that its thread may take again, for a pipeline that is called in a callback.

    Unlike `threading.RLock` it may be given back by another thread: a generator that holds it may be closed anywhere.
    """

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._holder: int | None = None  # the thread whose turn it is
        self._depth = 0

    @property
    def elsewhere(self) -> bool:
        """Whether it is the turn of another thread."""
        return self._holder not in (None, threading.get_ident())

    def __enter__(self) -> None:
        with self._free:
            self._free.wait_for(lambda: not self.elsewhere)
            self._holder = threading.get_ident()
            self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._free:
            self._depth -= 1
            if not self._depth:
                self._holder = None
                self._free.notify()


# By transformer and not in it: copies and pickles of a transformer have turns of their own.
_turns: WeakKeyDictionary[torch.nn.Module, Turn] = WeakKeyDictionary()
_making = threading.Lock()


def turn_of(transformer: torch.nn.Module) -> Turn:
    """The turn of `transformer`, the same for all who share it."""
    with _making:
        return _turns.setdefault(transformer, Turn())
