"""What the tests of reports share."""

from __future__ import annotations

import pytest

from tocache.reporting import Comparison, compare


@pytest.fixture(scope="session")
def videos() -> Comparison:
    """A comparison of two clips."""
    return compare("demo:random-video", methods="toca", prompts=("sea",), steps=9, device="cpu")
