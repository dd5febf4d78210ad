"""The methods: frozen, validated settings, each of which makes a plan from what is known before the run."""

from __future__ import annotations

from tocache.methods.base import Method, fill_table
from tocache.methods.clusca import ClusCa
from tocache.methods.composed import Composed
from tocache.methods.delta_dit import DeltaDiT
from tocache.methods.duca import DuCa
from tocache.methods.early import Early
from tocache.methods.fora import FORA
from tocache.methods.forecasting import FreqCa, HiCache, Newton, Spectrum, TaylorSeer
from tocache.methods.pab import PAB
from tocache.methods.placed import Placed
from tocache.methods.planned import Planned
from tocache.methods.tap import TAP
from tocache.methods.tgate import TGATE
from tocache.methods.toca import ToCa
from tocache.methods.uncached import Uncached

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        Uncached,
        FORA,
        PAB,
        DeltaDiT,
        TGATE,
        ToCa,
        DuCa,
        ClusCa,
        TaylorSeer,
        HiCache,
        Newton,
        Spectrum,
        FreqCa,
        TAP,
        Early,
        Placed,
    )
}
"""The methods that the command line knows, by name."""

__all__ = [
    "FORA",
    "METHODS",
    "PAB",
    "TAP",
    "TGATE",
    "ClusCa",
    "Composed",
    "DeltaDiT",
    "DuCa",
    "Early",
    "FreqCa",
    "HiCache",
    "Method",
    "Newton",
    "Placed",
    "Planned",
    "Spectrum",
    "TaylorSeer",
    "ToCa",
    "Uncached",
    "fill_table",
]
