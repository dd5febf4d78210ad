"""How long a worker may draw before it counts as hung."""

from __future__ import annotations

from math import inf

TIMES, AT_LEAST = 20, 600.0
"""Without a limit of one's own: so many times the longest batch so far, and at least so many seconds.

That is much, since a limit that is too low costs pictures: a prompt whose workers seem to hang again and again is
skipped. One that is too high costs one worker's time.
"""


class Patience:
    """`limit` is in seconds: `timeout`, or if that is None one that follows from what batches take."""

    def __init__(self, timeout: float | None = None) -> None:
        self._timeout, self._longest = timeout, 0.0

    @property
    def limit(self) -> float:
        """Infinite where there is no timeout and no batch was drawn: the first one may compile for an hour."""
        if self._timeout is not None:
            return self._timeout
        return max(AT_LEAST, TIMES * self._longest) if self._longest else inf

    def note(self, seconds: float) -> None:
        """A batch was drawn in so many seconds."""
        self._longest = max(self._longest, seconds)
