"""The operations that decide how much the choice of tokens costs: a reference in torch each, and Triton beside it."""

from tocache.kernels.attention_with_sums import attention_with_column_sums
from tocache.kernels.backends import Backends
from tocache.kernels.column_sums import COLUMN_SUMS, attention_column_sums
from tocache.kernels.cross_entropy import ENTROPY, attention_entropy
from tocache.kernels.rows import gather_rows, scatter_rows

__all__ = [
    "COLUMN_SUMS",
    "ENTROPY",
    "Backends",
    "attention_column_sums",
    "attention_entropy",
    "attention_with_column_sums",
    "gather_rows",
    "scatter_rows",
]
