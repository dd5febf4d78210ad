"""The operations that decide how much the choice of tokens costs, one per file: plain torch, faster ones may join."""

from tocache.kernels.attention_with_sums import attention_with_column_sums
from tocache.kernels.column_sums import attention_column_sums, backends, register_backend
from tocache.kernels.cross_entropy import attention_entropy
from tocache.kernels.rows import gather_rows, scatter_rows

__all__ = [
    "attention_column_sums",
    "attention_entropy",
    "attention_with_column_sums",
    "backends",
    "gather_rows",
    "register_backend",
    "scatter_rows",
]
