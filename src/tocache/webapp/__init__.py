"""The same picture without and with a cache, interactively in a browser; needs the extra `app`."""

from tocache.webapp.server import serve, served
from tocache.webapp.studio import Shown, Studio, Wish

__all__ = ["Shown", "Studio", "Wish", "serve", "served"]
