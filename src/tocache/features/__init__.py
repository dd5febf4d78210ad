"""What the tokens get that are not computed: cached features, reused or forecast."""

from tocache.features.forecast import Feature, forecast_polynomial, forecast_reuse
from tocache.features.packed import Packed, pack, put_rows, unpack
from tocache.features.store import PassCache

__all__ = ["Feature", "Packed", "PassCache", "forecast_polynomial", "forecast_reuse", "pack", "put_rows", "unpack"]
