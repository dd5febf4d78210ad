"""What the tokens get that are not computed: cached features, reused or forecast."""

from tocache.features.forecast import Feature, Forecast, best_forecasts, extrapolate, extrapolate_each
from tocache.features.packed import Packed, alone, may_change, pack, put_rows, unpack
from tocache.features.store import Kept, PassCache

__all__ = [
    "Feature",
    "Forecast",
    "Kept",
    "Packed",
    "PassCache",
    "alone",
    "best_forecasts",
    "extrapolate",
    "extrapolate_each",
    "may_change",
    "pack",
    "put_rows",
    "unpack",
]
