"""What users would take instead, as the real packages have it; one small file each."""

from __future__ import annotations

from tocache.errors import UnknownNameError
from tocache.evaluation.peers.base import Peer
from tocache.evaluation.peers.cache_dit import DBCACHE, DBCACHE_TAYLOR, MASKED
from tocache.evaluation.peers.faster_cache import FASTER_CACHE
from tocache.evaluation.peers.fewer_steps import DPM_SOLVER, FEWER_STEPS, UNIPC
from tocache.evaluation.peers.first_block import FIRST_BLOCK
from tocache.evaluation.peers.mag_cache import MAG_CACHE
from tocache.evaluation.peers.pab import PAB
from tocache.evaluation.peers.taylorseer import TAYLORSEER, TAYLORSEER_LAYERS

BUILT_IN = (FEWER_STEPS, DPM_SOLVER, UNIPC)
"""Fewer steps, which need no package and take part in every benchmark."""

_CACHES = (
    *(DBCACHE, DBCACHE_TAYLOR, MASKED),
    *(FIRST_BLOCK, MAG_CACHE, TAYLORSEER, TAYLORSEER_LAYERS, PAB, FASTER_CACHE),
)

PEERS: dict[str, Peer] = {peer.name: peer for peer in (*BUILT_IN, *_CACHES)}
"""Every peer by name."""


def parse_peers(text: str) -> list[Peer]:
    """The peers that a list such as `cache-dit,first-block` names, the built-in ones first; `all` and `none` too.

    Raises UnknownNameError.
    """
    named = [name.strip() for name in text.split(",") if name.strip()]
    if named == ["none"]:
        named = []
    if "all" in named:
        named = list(PEERS)
    for name in named:
        if name not in PEERS:
            raise UnknownNameError.of("peer", name, (*PEERS, "all", "none"))
    return [*BUILT_IN, *(PEERS[name] for name in dict.fromkeys(named) if PEERS[name] not in BUILT_IN)]


__all__ = ["BUILT_IN", "PEERS", "Peer", "parse_peers"]
