"""The operations that decide how much the choice of tokens costs: a reference in torch each, and Triton beside it."""

from tocache.kernels.asking import may_ask, sent
from tocache.kernels.attention_with_sums import attention_with_column_sums
from tocache.kernels.backends import Backends
from tocache.kernels.column_sums import COLUMN_SUMS, attention_column_sums
from tocache.kernels.cross_entropy import ENTROPY, attention_entropy
from tocache.kernels.gated_residual import GATED_RESIDUAL, gated_residual
from tocache.kernels.modulated_rows import MODULATED_ROWS, modulated_rows
from tocache.kernels.rows import gather_rows, scatter_rows
from tocache.kernels.spread_scores import SPREAD_SCORES, cell_bonus, spread_scores

__all__ = [
    "COLUMN_SUMS",
    "ENTROPY",
    "GATED_RESIDUAL",
    "MODULATED_ROWS",
    "SPREAD_SCORES",
    "Backends",
    "attention_column_sums",
    "attention_entropy",
    "attention_with_column_sums",
    "cell_bonus",
    "gated_residual",
    "gather_rows",
    "may_ask",
    "modulated_rows",
    "scatter_rows",
    "sent",
    "spread_scores",
]
