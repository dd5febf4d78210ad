"""What the tokens get that are not computed: cached features, reused or forecast."""

from tocache.features.forecast import Feature, forecast_polynomial, forecast_reuse
from tocache.features.store import PassCache

__all__ = ["Feature", "PassCache", "forecast_polynomial", "forecast_reuse"]
