"""What the tokens get that are not computed: cached features, reused or forecast."""

from tocache.features.forecast import Feature, Forecast, extrapolate
from tocache.features.packed import Packed, pack, put_rows, unpack
from tocache.features.store import PassCache

__all__ = ["Feature", "Forecast", "Packed", "PassCache", "extrapolate", "pack", "put_rows", "unpack"]
