"""The methods: frozen, validated settings, each of which makes a plan from what is known before the run."""

from __future__ import annotations

from tocache.methods.base import Method, fill_table
from tocache.methods.fora import FORA
from tocache.methods.pab import PAB
from tocache.methods.planned import Planned
from tocache.methods.toca import ToCa
from tocache.methods.uncached import Uncached

METHODS: dict[str, type[Method]] = {method.name: method for method in (Uncached, FORA, PAB, ToCa)}
"""The methods that the command line knows, by name."""

__all__ = ["FORA", "METHODS", "PAB", "Method", "Planned", "ToCa", "Uncached", "fill_table"]
