"""Reads off an attention, while it runs, what scores will need: one number per token, never the map itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from tocache.engine.pass_run import PassRun
from tocache.engine.probe import Probe, Seen
from tocache.engine.wiring import Attention
from tocache.features import may_change
from tocache.kernels import attention_column_sums, attention_entropy, attention_with_column_sums, scatter_rows
from tocache.tokens import score_key_norm, score_value_norm


def read_self_attention(run: PassRun, wiring: Attention, compute: Callable[[], Any]) -> Any:
    """Runs a self-attention; where later choices need it, keeps the base scores of its tokens by group."""
    sites = [run.index[name] for name in wiring.sites]
    keeps_pairs = wiring.by_token and run.keeps_pairs(sites[0])
    if not keeps_pairs and not any(run.reads_map(i) for i in sites):
        return compute()
    names = run.plan.policy.self_scores if any(run.reads_map(i) for i in sites) else ()
    found: list[dict[str, torch.Tensor]] = []
    tokens = [run.tokens(group) for group in wiring.groups]

    def look(seen: Seen) -> torch.Tensor | None:
        # adapters may attend again, to tokens of their own, and kept keys of other tokens may have joined these
        if found or not seen.plain or seen.key.shape[2] != sum(tokens):
            return None
        if keeps_pairs and seen.mask is None:
            run.note_pairs(sites[0], seen.key, seen.value)
        output, whole = None, {}
        for name in names:
            if name == "influence":
                samples = _samples(run, wiring, seen) if seen.query.shape[2] == sum(tokens) else ()
                output, whole[name] = _attend_and_sum(seen, lambda: _present(run, wiring), samples)
            else:
                whole[name] = score_value_norm(seen.value) if name == "value-norm" else score_key_norm(seen.key)
        parts = {name: torch.split(values, tokens, dim=1) for name, values in whole.items()}
        found.extend({n: parts[n][g].contiguous() for n in names} for g in range(len(wiring.groups)))
        return output

    with Probe(look):
        y = compute()
    if not found and set(names) == {"influence"} and _is_left_out(run, wiring):
        # every token is heard by itself alone: the column sums of that map
        found = [{"influence": y.new_ones((y.shape[0], count), dtype=torch.float32)} for count in tokens]
    if not found:
        run.cannot_read(wiring.module)
    for i in sites:
        group = run.plan.sites[i].group
        if found and run.reads_map(i):
            run.note_map(i, found[wiring.groups.index(group)])
    return y


def _is_left_out(run: PassRun, wiring: Attention) -> bool:
    if wiring.left_out is None:
        return False
    argument, block = wiring.left_out
    return block in (run.arguments.get(argument) or ())


Samples = Sequence[tuple[int, torch.Tensor | None]]
"""By group of an attention's tokens, in order: how many there are, and which queries are read, None for all."""


def _samples(run: PassRun, wiring: Attention, seen: Seen) -> Samples:
    """Which queries of an attention its column sums are estimated from; nothing where they are exact."""
    site = run.index[wiring.sites[0]]
    found = [(run.tokens(group), run.queries(site, group, seen.query.device)) for group in wiring.groups]
    return found if any(index is not None for _, index in found) else ()


def _attend_and_sum(
    seen: Seen, present: Callable[[], torch.Tensor | None], samples: Samples = ()
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """The attention's output, and its column sums (rows, keys) over the queries of tokens that are not padding.

    What padding asks for must not depend on how much of it a batch has. Of `samples` the sums are an estimate; the
    output is then None: the call is the model's own.
    """
    query, key, mask = seen.query, seen.key, seen.mask
    seen_by = mask
    if mask is not None and mask.dtype == torch.bool and mask.dim() == 4 and mask.shape[2] == 1:
        seen_by = mask & mask.transpose(2, 3)  # the keys that it hides are padding
    elif mask is not None and (there := present()) is not None:
        seen_by = mask.masked_fill(~there[:, None, :, None], False if mask.dtype == torch.bool else -torch.inf)
    if samples:
        return None, _estimated_sums(query, key, seen_by, seen.scale, samples)
    if seen_by is mask:
        return attention_with_column_sums(query, key, seen.value, mask=mask, scale=seen.scale)
    return seen.attend(), attention_column_sums(query, key, mask=seen_by, scale=seen.scale)


def _estimated_sums(
    query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, scale: float | None, samples: Samples
) -> torch.Tensor:
    """(rows, keys) the column sums, each group's part from its own sample, so that their weights stay exact."""
    sums, start = torch.zeros(key.shape[0], key.shape[2], dtype=torch.float32, device=key.device), 0
    for tokens, index in samples:
        own = slice(start, start + tokens)
        by_query = mask is not None and mask.dim() > 1 and mask.shape[-2] > 1
        part = mask[..., own, :] if mask is not None and by_query else mask
        sums += attention_column_sums(query[:, :, own], key, mask=part, scale=scale, query_index=index)
        start += tokens
    return sums


def _present(run: PassRun, wiring: Attention) -> torch.Tensor | None:
    """(rows, tokens) bool: which tokens of an attention of one group are no padding; None where that is not said."""
    return run.padding.get(wiring.groups[0]) if len(wiring.groups) == 1 else None


def attend_rows(run: PassRun, site: int, index: torch.Tensor, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Runs a self-attention on the tokens `index` (rows, k): their queries over the keys and values of all tokens.

    Those of the other tokens are cached. Returns what `compute` gives, (rows, k, width).
    """
    done = False

    def look(seen: Seen) -> torch.Tensor | None:
        nonlocal done
        if done or not seen.plain:
            return None
        done = True
        keys, values = run.cache.renew_pairs(site, seen.key, seen.value, index)
        return F.scaled_dot_product_attention(seen.query, keys, values, scale=seen.scale)

    with Probe(look):
        return compute()


def read_cross_attention(
    run: PassRun, site: int, compute: Callable[[], torch.Tensor], index: torch.Tensor | None
) -> torch.Tensor:
    """Runs a cross-attention on all tokens, or on the rows `index` (rows, k), and keeps the entropies of what it ran.

    Under batched guidance each half's map counts half (ToCa's published code adds 0.5·cond and 0.5·uncond, whose
    texts share no column, so that the entropies of the halved maps add up).
    """
    weight = 0.5 if run.plan.policy.together and run.halves is not None else 1.0
    found: list[torch.Tensor] = []

    def look(seen: Seen) -> None:
        if not found and seen.plain:
            found.append(attention_entropy(seen.query, seen.key, mask=seen.mask, scale=seen.scale, weight=weight))

    with Probe(look):
        y = compute()
    if not found:
        run.cannot_read(run.plan.sites[site].name)
    else:
        before = run.cache.maps[site].get("entropy")
        if before is not None and not may_change(before):
            before = before.clone()
        entropy = found[0] if index is None or before is None else scatter_rows(before, found[0], index)
        run.note_map(site, {"entropy": entropy})
    return y
