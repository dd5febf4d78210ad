"""The queries that the self-attentions of a pass are read by, where the policy does not ask for all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from tocache.kernels import sent
from tocache.plan.anatomy import SELF_ATTENTION
from tocache.plan.plan import Plan
from tocache.tokens import sample_queries


class SampledQueries:
    """How the sampled queries of pass `number` lie in one table, which is drawn and sent to the device as a whole.

    Each attention has a row of it, each group of tokens its columns; a group of which all queries are read has none.
    """

    def __init__(self, plan: Plan, number: int) -> None:
        policy, self.tokens = plan.policy, plan.anatomies[number].shape.tokens
        self.seed, self.number = policy.seed, number
        attentions = [i for i, site in enumerate(plan.sites) if site.kind == SELF_ATTENTION]
        self.rows = {i: row for row, i in enumerate(attentions)}
        self.columns: dict[str, slice] = {}
        self.width = 0
        for group, tokens in self.tokens.items():
            count = policy.queries_of(tokens)
            if count < tokens:
                self.columns[group] = slice(self.width, self.width + count)
                self.width += count

    def draw(self, step: int, device: torch.device) -> torch.Tensor:
        """(attentions, width) int64, counted within the groups; see `sample_queries`. Drawn on the host.

        Each attention, step and pass has a sample of its own, which all rows of the batch share. It depends on these
        and the policy's seed alone, so that a run can be repeated, with graphs and without.
        """
        seed = np.random.SeedSequence((self.seed, step, self.number)).generate_state(1)
        generator = torch.Generator().manual_seed(int(seed[0]))
        parts = [
            sample_queries(self.tokens[group], columns.stop - columns.start, len(self.rows), generator=generator)
            for group, columns in self.columns.items()
        ]
        return sent(torch.cat(parts, dim=1), device) if parts else self.nothing(device)

    def nothing(self, device: torch.device) -> torch.Tensor:
        """A table of the same size for a pass in which no attention is read."""
        return torch.zeros(len(self.rows), self.width, dtype=torch.int64, device=device)

    def of(self, table: torch.Tensor, site: int, group: str) -> torch.Tensor | None:
        """(queries,) of `group` in the attention `site`, or None where all are read."""
        columns = self.columns.get(group)
        return None if columns is None else table[self.rows[site], columns]


Sample = Callable[[SampledQueries, int, torch.device], torch.Tensor]
"""`SampledQueries.draw`, or what stands for it in a trace."""
