"""The plan: how many tokens every site computes in every step and pass, decided before the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocache.errors import OptionError, PlanError, PlanMismatchError
from tocache.plan.anatomy import PARALLEL, REGION, Anatomy, Site
from tocache.plan.policy import Policy

ALL = -1  # compute every token, however many there are
SKIPPED = -2  # the site does not run: its pass is copied or its region is served from the cache

Table = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Plan:
    """Amounts (`fresh`), what is copied (`source`) and the policy, for the passes of one model at one shape.

    fresh  (steps, passes, sites) int32: ALL, or how many tokens; 0 serves the cache.
    source (steps, passes) int8: −1, or the pass of the same step whose output this pass takes over.
    origin JSON values that say how it was found, where it was found by measuring; nothing is computed from them.

    Raises PlanError where the table contradicts the anatomy.
    """

    anatomies: tuple[Anatomy, ...]  # one per pass, all with the same sites
    fresh: Table
    policy: Policy
    method: str  # how it was made, e.g. "ToCa(interval=3, fresh_ratio=0.07)"
    source: NDArray[np.int8] | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        source = np.full(self.fresh.shape[:2], -1) if self.source is None else self.source
        object.__setattr__(self, "fresh", _frozen("fresh", self.fresh, np.int32))
        object.__setattr__(self, "source", _frozen("source", source, np.int8))
        _validate(self)

    @property
    def steps(self) -> int:
        return int(self.fresh.shape[0])

    @property
    def passes(self) -> int:
        return int(self.fresh.shape[1])

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.anatomies[0].sites

    @cached_property
    def amounts(self) -> Table:
        """`fresh` as it runs: SKIPPED where a pass is copied, or what encloses the site is served."""
        amounts = self.fresh.copy()
        index = self.anatomies[0].index
        for i, site in enumerate(self.sites):
            if site.inside:
                inside = [index[name] for name in site.inside]
                amounts[:, :, inside] = np.where(self.fresh[:, :, i, None] == 0, SKIPPED, amounts[:, :, inside])
        assert self.source is not None
        amounts[self.source >= 0] = SKIPPED
        return amounts

    @cached_property
    def choices(self) -> Table:
        """(steps, passes, sites) how many tokens are chosen at a site: 0 where it computes all, none, or follows.

        Under a shared choice the first partial site of a scope chooses for all of it, as many as the largest needs;
        the others take the best of those. Where both guidance halves choose alike and run as two passes, the second
        pass follows the first.
        """
        wanted = np.maximum(self.amounts, 0)
        chosen = np.zeros_like(wanted)
        for members in self.scopes:
            amounts = wanted[:, :, members]
            most = amounts.max(axis=2)
            first = np.asarray(members)[(amounts > 0).argmax(axis=2)]
            np.put_along_axis(chosen, first[:, :, None], most[:, :, None], axis=2)
        for p in range(1, self.passes):
            if self.follows(p):
                chosen[:, p] = 0
        return chosen

    def follows(self, number: int) -> bool:
        """Whether pass `number` takes its tokens from the first pass of the step."""
        first, other = self.anatomies[0].shape, self.anatomies[number].shape
        return number > 0 and self.policy.together and (first.rows, first.tokens) == (other.rows, other.tokens)

    @cached_property
    def scopes(self) -> tuple[tuple[int, ...], ...]:
        """The sites that share one choice of tokens, as indices, in running order."""
        scopes: dict[tuple[object, ...], list[int]] = {}
        for i, site in enumerate(self.sites):
            if site.rows:
                key = {"sublayer": (i,), "block": (site.stack, site.block, site.group), "step": (site.group,)}
                scopes.setdefault(key[self.policy.share], []).append(i)
        return tuple(tuple(members) for members in scopes.values())

    @cached_property
    def probes(self) -> dict[str, int]:
        """By span, the region that every step computes, to see for each token which forecast is the best one now.

        Empty unless the policy is adaptive. It begins the span; the span's other regions are served by its word.
        """
        always = (self.fresh == ALL).all(axis=(0, 1))
        regions = [i for i, site in enumerate(self.sites) if site.kind == REGION and site.block == 0 and always[i]]
        return {self.sites[i].stack: i for i in regions} if self.policy.adaptive else {}

    def kind_of_step(self, step: int) -> str:
        """`full`, `partial` or `reuse`, by what the step's sites compute."""
        return kind_of(self.amounts[step])

    def rebased(self, anatomies: Sequence[Anatomy]) -> Plan:
        """The same amounts for another batch size, dtype or number of passes (the last pass's amounts are repeated).

        Raises PlanMismatchError where the model or a token count differs, naming what does.
        """
        anatomies = [_with_regions(anatomy, self.sites) for anatomy in anatomies]
        take = [min(p, self.passes - 1) for p in range(len(anatomies))]
        for p, anatomy in zip(take, anatomies, strict=True):
            _match(self.anatomies[p], anatomy)
        assert self.source is not None
        return replace(self, anatomies=tuple(anatomies), fresh=self.fresh[:, take], source=self.source[:, take])

    def stored(self, *, storage: str | None = None, offload: bool | None = None) -> Plan:
        """The same plan with features kept otherwise; None leaves it as it is. Raises OptionError."""
        policy = self.policy
        policy = policy if storage is None else replace(policy, storage=storage)
        policy = policy if offload is None else replace(policy, offload=offload)
        return self if policy is self.policy else replace(self, policy=policy)

    def full_at(self, step: int, first: int = 0) -> Plan:
        """The same plan with everything computed in `step`, in the passes from `first` on."""
        assert self.source is not None
        fresh, source = self.fresh.copy(), self.source.copy()
        fresh[step, first:], source[step, first:] = ALL, -1
        return replace(self, fresh=fresh, source=source)

    def since(self, step: int) -> Plan:
        """The plan of the steps from `step` on, in which all is computed. Raises PlanError where it is not."""
        assert self.source is not None
        return replace(self, fresh=self.fresh[step:], source=self.source[step:])

    def rounded(self, multiple: int) -> Plan:
        """The same plan with amounts between 0 and ALL raised to multiples of `multiple`, or to all that are counted.

        Rows that differ by a few tokens become equal, so that fewer kinds of steps are compiled, and matrix units like
        round numbers. FLOPs are those of the rounded amounts. Raises OptionError.
        """
        if not isinstance(multiple, int) or multiple < 1:
            raise OptionError(f"multiple={multiple!r} is not allowed; allowed: an integer >= 1")
        if multiple == 1:
            return self
        most = np.array([[anatomy.counted(site) for site in self.sites] for anatomy in self.anatomies])
        raised = np.maximum(self.fresh, np.minimum(-(-self.fresh // multiple) * multiple, most))
        return replace(self, fresh=np.where(self.fresh > 0, raised, self.fresh))  # (steps, passes, sites)

    def resampled(self, steps: int) -> Plan:
        """The plan stretched to another number of steps; each new step takes the row nearest in relative time."""
        if steps < 1:
            raise PlanError(f"steps={steps} is not allowed; allowed: an integer >= 1")
        nearest = np.rint(np.linspace(0, self.steps - 1, steps)).astype(int)
        assert self.source is not None
        return replace(self, fresh=self.fresh[nearest], source=self.source[nearest])


def kind_of(amounts: Table) -> str:
    """`full` (every site that runs computes everything), `reuse` (none computes anything) or `partial`."""
    ran = amounts[amounts != SKIPPED]
    if ran.size and (ran == ALL).all():
        return "full"
    return "partial" if (ran != 0).any() else "reuse"


def _frozen(name: str, table: NDArray[Any], dtype: type[np.signedinteger[Any]]) -> NDArray[Any]:
    """A copy of `table` that cannot be changed. Raises PlanError where it holds anything but integers."""
    own = np.array(table, dtype=dtype, order="C")
    if (own != table).any():
        raise PlanError(f"{name} must hold integers of {np.dtype(dtype).name}")
    own.setflags(write=False)
    return own


def _validate(plan: Plan) -> None:
    sites = plan.sites
    if plan.fresh.ndim != 3 or plan.fresh.shape[1:] != (len(plan.anatomies), len(sites)):
        raise PlanError(
            f"fresh has shape {plan.fresh.shape}; expected (steps, {len(plan.anatomies)} passes, {len(sites)} sites)"
        )
    if plan.fresh.shape[0] < 1:
        raise PlanError("a plan needs at least one step")
    assert plan.source is not None
    if plan.source.shape != plan.fresh.shape[:2]:
        raise PlanError(f"source has shape {plan.source.shape}; expected (steps, passes) = {plan.fresh.shape[:2]}")
    if (plan.source[0] >= 0).any():
        raise PlanError(f"step 0, pass {int(plan.source[0].argmax())}: the first step must be ALL, it copies no pass")
    _validate_regions(plan)
    for p, anatomy in enumerate(plan.anatomies):
        if tuple(s.name for s in anatomy.sites) != tuple(s.name for s in sites):
            raise PlanError(f"pass {p} has other sites than pass 0")
        tokens = np.array([anatomy.tokens(site) for site in sites])
        rows = np.array([site.rows for site in sites])
        table = plan.fresh[:, p]
        _refuse(plan, p, (table < ALL) | (table > tokens), "an amount must be ALL (-1) or 0 … the site's tokens")
        _refuse(plan, p, (table > 0) & ~rows, "this site cannot compute single tokens: ALL or 0")
        _refuse(plan, p, (table != ALL) & (np.arange(plan.steps) == 0)[:, None], "the first step must be ALL")
        bad = (plan.source[:, p] >= p) | (plan.source[:, p] < -1)
        if bad.any():
            raise PlanError(f"step {int(bad.argmax())}, pass {p}: a pass can copy an earlier pass of its step only")
        for i, site in enumerate(sites):
            if plan.follows(p):  # it takes the first of the tokens that the first pass chose
                more = table[:, i] > np.maximum(plan.fresh[:, 0, i], 0)
                _refuse(plan, p, _column(more, i, table), "a pass that follows the first cannot compute more tokens")
            if site.kind == PARALLEL:
                attention = table[:, anatomy.index[site.inside[0]]]
                wasted = (table[:, i] != ALL) & (attention == ALL)
                _refuse(plan, p, _column(wasted, i, table), "a fused block that computes its attention computes ALL")
    _validate_scores(plan)


def _validate_regions(plan: Plan) -> None:
    taken: dict[str, str] = {}
    for i, site in enumerate(plan.sites):
        for giver, reader in plan.anatomies[0].skips.get(site.stack, ()) if site.kind == REGION else ():
            if site.block <= giver < site.block + site.span <= reader and (plan.fresh[:, :, i] == 0).any():
                raise PlanError(
                    f"{site.name} may not be served: block {reader} reads what block {giver} gives when it is computed"
                )
        for name in site.inside:
            if name not in plan.anatomies[0].index:
                raise PlanError(f"{site.name} encloses {name!r}, which is no site")
            if site.kind == REGION and taken.setdefault(name, site.name) != site.name:
                raise PlanError(f"the regions {taken[name]} and {site.name} overlap")


def _validate_scores(plan: Plan) -> None:
    needs_self, needs_cross = bool(plan.policy.self_scores), bool(plan.policy.cross_scores)
    partial = {int(i) for i in np.nonzero(plan.fresh > 0)[2]}
    for i, site in enumerate(plan.sites):
        missing = (needs_self and site.self_map is None) or (needs_cross and site.cross_map is None)
        if i in partial and missing:
            scores = ", ".join(plan.policy.scores)
            raise PlanError(f"{site.name}: {plan.anatomies[0].model} has no attention map there to score by: {scores}")


def _column(bad: NDArray[np.bool_], site: int, table: Table) -> NDArray[np.bool_]:
    spread = np.zeros(table.shape, dtype=np.bool_)
    spread[:, site] = bad
    return spread


def _refuse(plan: Plan, p: int, bad: NDArray[np.bool_], rule: str) -> None:
    if bad.any():
        step, site = (int(i) for i in np.argwhere(bad)[0])
        amount = int(plan.fresh[step, p, site])
        raise PlanError(f"step {step}, pass {p}, {plan.sites[site].name}: amount {amount}; {rule}")


def _with_regions(anatomy: Anatomy, sites: Sequence[Site]) -> Anatomy:
    """`anatomy` with the regions among `sites` that it does not have yet."""
    for site in sites:
        fits = site.block + site.span <= anatomy.spans.get(site.stack, 0)
        if site.kind == REGION and site.name not in anatomy.index and fits:
            anatomy = anatomy.with_region(site.stack, site.block, site.block + site.span - 1)
    return anatomy


def _match(planned: Anatomy, actual: Anatomy) -> None:
    differs = []
    if other := planned.other_than(actual.family, actual.model):
        differs.append(other)
    elif [s.name for s in planned.sites] != [s.name for s in actual.sites]:
        differs.append(f"sites: plan has {len(planned.sites)}, this model {len(actual.sites)}, or other names")
    for group in sorted({*planned.shape.tokens, *actual.shape.tokens}):
        here, there = actual.shape.tokens.get(group), planned.shape.tokens.get(group)
        if here != there:
            differs.append(f"{group} tokens: plan {there}, here {here}")
    if differs:
        raise PlanMismatchError("the plan was made for something else; " + "; ".join(differs))
