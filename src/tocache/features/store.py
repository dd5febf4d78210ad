"""What one pass has cached: features, what the attention maps said of the tokens, and how stale each token is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from tocache.features.forecast import Feature
from tocache.features.host import Arriving, HostMemory
from tocache.features.packed import Packed, may_change, pack, put_rows, unpack


@dataclass(slots=True)
class Kept:
    """One feature: on the device, or on the host and, shortly before it is read, on the device too."""

    step: int
    packed: Packed  # at its home
    arriving: Arriving | None = None

    def device_bytes(self, at_home: bool) -> int:
        if at_home:
            return self.packed.nbytes
        return 0 if self.arriving is None else self.arriving.packed.nbytes


class PassCache:
    """The cache of one pass; every table is indexed by site.

    kept[i]      the features of site i, oldest first
    maps[i]      base score → (rows, tokens) float32, as last read off site i's attention
    fresh_at[i]  (rows, tokens) int32 step at which each token of the scope that ends at site i was last fresh;
                 None where all of them were fresh at `full_at[i]`
    pairs[i]     keys and values of attention i, (rows, heads, tokens, channels) both, of which single tokens are
                 computed; always on the device and in their own dtype
    clusters[i]  (rows, tokens) int32: the cluster of each token of that scope, of which later choices take the best
    drift[i]     (rows, tokens) float32: by how much a step the tokens of that scope moved away from what would have
                 been served, as its newest full step found; None where there was nothing to compare with

    Args:
        storage: of features: "same", "int8" or "fp8" (see `pack`).
        offload: keep them in the host's memory, with at most `pending` device copies waiting to be sent.

    `held` are the bytes of all tensors held, each feature counted once, and `held_device` those on the device; both
    are as of the newest `weigh` of each site.
    """

    def __init__(self, sites: int, *, storage: str = "same", offload: bool = False, pending: int = 2) -> None:
        self.sites = sites
        self.storage = storage
        self.host = HostMemory(pending) if offload else None
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self.kept: list[list[Kept]] = [[] for _ in range(self.sites)]
        self.maps: list[dict[str, torch.Tensor]] = [{} for _ in range(self.sites)]
        self.fresh_at: list[torch.Tensor | None] = [None] * self.sites
        self.full_at = [-1] * self.sites
        self.pairs: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * self.sites
        self.clusters: list[torch.Tensor | None] = [None] * self.sites
        self.drift: list[torch.Tensor | None] = [None] * self.sites
        self._watched: set[int] = set()  # scopes whose drift this pass has begun to add up
        self._device: torch.device | None = None
        self._bytes = [(0, 0)] * self.sites
        self.held = self._held_device = 0
        if self.host is not None:
            self.host.drain()

    @property
    def held_device(self) -> int:
        return self._held_device + (0 if self.host is None else self.host.pending_bytes)

    # ── features ─────────────────────────────────────────────────────────────────────────────────────────────────

    def count(self, i: int) -> int:
        """How many features of site `i` are kept."""
        return len(self.kept[i])

    def keep(self, i: int, value: torch.Tensor, step: int) -> None:
        """One more feature (rows, tokens, width) of site `i`, computed in full at `step`."""
        packed = pack(value.detach(), self.storage)
        self._device = value.device
        self.kept[i].append(Kept(step, packed if self.host is None else self.host.send(packed, None)))

    def features(self, i: int) -> list[Feature]:
        """The features of site `i`, oldest first."""
        return [Feature(unpack(self._read(kept)), kept.step) for kept in self.kept[i]]

    def newest(self, i: int) -> torch.Tensor:
        """The newest feature of site `i`."""
        return unpack(self._read(self.kept[i][-1]))

    def hands_out_its_own(self) -> bool:
        """Whether `features` are the very tensors that are kept: writing into one changes the cache."""
        return self.host is None and self.storage == "same"

    def replace(self, i: int, value: torch.Tensor) -> None:
        """`value` (rows, tokens, width) stands in place of site `i`'s newest feature."""
        self._put(self.kept[i][-1], pack(value.detach(), self.storage))

    def amend(self, i: int, value: torch.Tensor, rows: torch.Tensor, index: torch.Tensor) -> None:
        """Site `i` has computed some tokens: they become part of its newest feature.

        `rows` (B, k, width) are the tokens `index` (B, k); `value` is the whole feature with them in their places.
        """
        if self.storage == "same":
            self.replace(i, value)
        else:  # the others keep their 8 bits: packing them again would round them again
            kept = self.kept[i][-1]
            self._put(kept, put_rows(self._read(kept), rows.detach(), index))

    def trim(self, i: int, count: int) -> None:
        """Keeps the newest `count` features of site `i`, and of those what is at home."""
        kept = self.kept[i]
        del kept[: max(0, len(kept) - count)]
        for feature in kept:
            feature.arriving = None

    def fetch(self, sites: Iterable[int]) -> None:
        """Brings the features of these sites to the device, if that is not their home: they are read next."""
        if self.host is None or self._device is None:
            return
        for i in sites:
            for kept in self.kept[i]:
                if kept.arriving is None:
                    kept.arriving = self.host.fetch(kept.packed, self._device)
            self.weigh(i)

    def drain(self) -> None:
        """At the end of a pass: nothing on the device waits to be sent."""
        self._watched.clear()
        if self.host is not None:
            self.host.drain()

    def _put(self, kept: Kept, packed: Packed) -> None:
        kept.packed = packed if self.host is None else self.host.send(packed, kept.packed)
        kept.arriving = None

    def _read(self, kept: Kept) -> Packed:
        if self.host is None:
            return kept.packed
        if kept.arriving is None:
            assert self._device is not None
            kept.arriving = self.host.fetch(kept.packed, self._device)
        return kept.arriving.take()

    def renew_pairs(
        self, i: int, keys: torch.Tensor, values: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and values of all tokens, those of the tokens `index` (B, k) replaced: both (B, heads, k, channels).

        They are kept so, too; in place where autograd allows it.
        """
        kept = self.pairs[i]
        assert kept is not None
        whole = kept if may_change(kept[0]) else (kept[0].clone(), kept[1].clone())
        rows = torch.arange(index.shape[0], device=index.device).unsqueeze(1)
        for into, new in zip(whole, (keys, values), strict=True):
            into[rows, :, index] = new.transpose(1, 2)  # (B, heads, k, channels) -> (B, k, heads, channels)
        self.pairs[i] = (whole[0].detach(), whole[1].detach())
        return whole

    def watch(self, i: int, home: int, step: int, value: torch.Tensor, served: torch.Tensor) -> None:
        """Adds to the scope's drift what site `i`, which computes all of `value` at `step`, would have been off.

        Both (rows, tokens, width). A token's distance counts by the steps since it was fresh.
        """
        moved = torch.linalg.vector_norm(value.float() - served.float(), dim=-1)  # (rows, tokens)
        ages = self.fresh_at[home]
        moved /= step - (self.full_at[home] if ages is None else ages)
        drift = self.drift[home] if home in self._watched else None
        self.drift[home] = moved if drift is None else drift + moved
        self._watched.add(home)
        self.weigh(home)

    # ── bytes ────────────────────────────────────────────────────────────────────────────────────────────────────

    def weigh(self, i: int) -> None:
        """Takes note of the bytes that are held for site `i` now."""
        numbers = [*self.maps[i].values(), self.fresh_at[i], self.clusters[i], self.drift[i], *(self.pairs[i] or ())]
        small = sum(tensor.nbytes for tensor in numbers if tensor is not None)
        total = small + sum(kept.packed.nbytes for kept in self.kept[i])
        device = small + sum(kept.device_bytes(self.host is None) for kept in self.kept[i])
        before = self._bytes[i]
        self._bytes[i] = (total, device)
        self.held += total - before[0]
        self._held_device += device - before[1]

    @property
    def weighed(self) -> tuple[list[tuple[int, int]], int, int]:
        """The bytes of each site, all and those on the device, and both sums, as last weighed."""
        return list(self._bytes), self.held, self._held_device

    @weighed.setter
    def weighed(self, bytes_: tuple[list[tuple[int, int]], int, int]) -> None:
        sites, self.held, self._held_device = bytes_
        self._bytes = list(sites)
