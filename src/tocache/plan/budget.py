"""How many tokens a site computes in a step that is not full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tocache.plan.anatomy import Site


@dataclass(frozen=True)
class Budget:
    """A fresh ratio, weighted by time, depth and kind of sub-layer (ToCa §3.4).

    ratio = fresh_ratio · (1 + d − 2d·l/(L−1)) · (1 + t − 2t·s/S) · kind, clamped to [0, 1];
    s is the step's number (counted down from S−1 where `countdown`), l the block's index in its stack.
    Sites whose kind is not in `kinds` compute none.
    """

    fresh_ratio: float
    kinds: Mapping[str, float] = field(default_factory=dict)
    time: float = 0.0
    depth: float = 0.0
    countdown: bool = False
    last_block: int | None = None  # what the block's index is divided by; None: the last index of its own stack

    def tokens(self, step: int, steps: int, site: Site, count: int) -> int:
        """Fresh tokens among `count` at `site` in step `step` of `steps`: truncated, so 0 and `count` both occur."""
        kind = self.kinds.get(site.kind, 0.0)
        if not site.rows or kind == 0.0:
            return 0
        number = steps - 1 - step if self.countdown else step
        last = max(1, site.depth - 1) if self.last_block is None else self.last_block
        depth = 1 + self.depth - 2 * self.depth * site.block / last
        time = 1 + self.time - 2 * self.time * number / steps
        ratio = self.fresh_ratio * depth * time * kind
        # float32 as published: the product with the token count is then truncated
        return int(np.clip(np.float32(ratio), np.float32(0), np.float32(1)) * np.float32(count))

    def constant(self) -> Budget:
        """The same fresh ratio at every step, depth and kind that may compute rows."""
        return Budget(self.fresh_ratio, {kind: 1.0 for kind, factor in self.kinds.items() if factor})
