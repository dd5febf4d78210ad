"""State dicts of small originals."""

from __future__ import annotations

import pytest
from torch import Tensor

from .layouts import dit_shapes, flux_shapes, pixart_shapes, positions, random_state


@pytest.fixture
def dit() -> dict[str, Tensor]:
    return {**random_state(dit_shapes()), "pos_embed": positions(4)}


@pytest.fixture
def pixart() -> dict[str, Tensor]:
    return {**random_state(pixart_shapes()), "pos_embed": positions(4)}


@pytest.fixture
def flux() -> dict[str, Tensor]:
    return random_state(flux_shapes())
