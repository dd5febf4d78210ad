"""Which tokens are computed again: base scores, their additions and the choice, as pure functions of tensors."""

from tocache.tokens.cluster import cluster_tokens, pass_on, select_from_clusters
from tocache.tokens.queries import sample_queries
from tocache.tokens.scores import (
    add_staleness,
    merge_halves,
    multiply_staleness,
    score_drift,
    score_entropy,
    score_influence,
    score_key_norm,
    score_norm,
    score_random,
    score_similarity,
    score_value_norm,
)
from tocache.tokens.select import select_top

__all__ = [
    "add_staleness",
    "cluster_tokens",
    "merge_halves",
    "multiply_staleness",
    "pass_on",
    "sample_queries",
    "score_drift",
    "score_entropy",
    "score_influence",
    "score_key_norm",
    "score_norm",
    "score_random",
    "score_similarity",
    "score_value_norm",
    "select_from_clusters",
    "select_top",
]
