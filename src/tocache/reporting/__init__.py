"""Methods side by side on one page: the same pictures or videos, what was computed for them, and what that saved."""

from tocache.reporting.columns import Column, Drawn
from tocache.reporting.comparison import Comparison, compare
from tocache.reporting.page import write_report

__all__ = ["Column", "Comparison", "Drawn", "compare", "write_report"]
