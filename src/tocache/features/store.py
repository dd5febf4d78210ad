"""What one pass has cached: features, what the attention maps said of the tokens, and how stale each token is."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from tocache.features.forecast import Feature


@dataclass
class PassCache:
    """The cache of one pass; every table is indexed by site.

    features[i]  the newest full features of site i, oldest first, each (rows, tokens, width)
    maps[i]      base score → (rows, tokens) float32, as last read off site i's attention
    fresh_at[i]  (rows, tokens) int32 step at which each token of the scope that ends at site i was last fresh;
                 None where all of them were fresh at `full_at[i]`
    """

    sites: int
    features: list[list[Feature]] = field(init=False)
    maps: list[dict[str, torch.Tensor]] = field(init=False)
    fresh_at: list[torch.Tensor | None] = field(init=False)
    full_at: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self.features = [[] for _ in range(self.sites)]
        self.maps = [{} for _ in range(self.sites)]
        self.fresh_at = [None] * self.sites
        self.full_at = [-1] * self.sites

    @property
    def held_bytes(self) -> int:
        """Bytes of all tensors held."""
        tensors = [feature.value for history in self.features for feature in history]
        tensors += [values for maps in self.maps for values in maps.values()]
        tensors += [ages for ages in self.fresh_at if ages is not None]
        return sum(tensor.nbytes for tensor in tensors)

    def site_bytes(self, i: int) -> int:
        """Bytes of the tensors held for site `i`."""
        total = sum(feature.value.nbytes for feature in self.features[i])
        total += sum(values.nbytes for values in self.maps[i].values())
        ages = self.fresh_at[i]
        return total + (0 if ages is None else ages.nbytes)
