"""From weights and prices to the best setting: exact placement inside, few measured candidates outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tocache.errors import OptionError
from tocache.methods import Placed
from tocache.plan import Anatomy
from tocache.tuning.between import Between, variants
from tocache.tuning.draws import Draws
from tocache.tuning.goal import Price
from tocache.tuning.place import Floats, place, place_tokens, serving_costs
from tocache.tuning.refine import Spots, refine

_THINNED = (1.0, 0.75, 0.5)  # shares of the affordable full steps that are kept where the rest buys partial ones
_SPARED = 3  # candidates that are measured on all pictures, at least


@dataclass(frozen=True)
class Candidate:
    """A way to fill the steps between, and which steps are full and partial."""

    between: Between
    spots: Spots
    steps: int

    @property
    def method(self) -> Placed:
        return self.between.placed(self.spots, self.steps)


@dataclass
class Search:
    """What is known of a model, and the measured losses.

    best   is told of each candidate that is the best so far within what was asked, with its loss
    """

    draws: Draws
    price: Price
    anatomies: Sequence[Anatomy]
    betweens: Sequence[Between]
    gram: Floats
    weights: Floats
    tell_best: Callable[[Candidate, float], None]
    _placements: dict[tuple[str, bool], Floats] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        return len(self.gram)

    def best(self, limit: float, trials: int) -> Candidate:
        """The candidate of least loss that costs at most `limit`, from `trials` measured ones beside the starts.

        Starts of every way to fill the steps between are halved: all are drawn for the first pictures, the better half
        for all. The best is varied in what is done between its full steps, and from there a local search moves these.
        `limit` must allow one full step.
        """
        starts = [start for between in self.betweens for start in self.starts(between, limit)]
        return self.refined(self.varied(self.halved(starts), limit), trials)

    def starts(self, between: Between, limit: float) -> list[Candidate]:
        """Where the local search may begin at that cost: the cheapest placements, and for reuse even distances."""
        count = self.affordable(between, limit)
        if not count:
            return []
        if between.tokens is not None:
            found = [self._with_tokens(between, max(1, round(share * count)), limit) for share in _THINNED]
            return _distinct([one for one in found if one is not None])
        spots = [Spots(self.placed(between, count, coherent)) for coherent in (True, False)]
        if between == self.betweens[0]:
            spots.append(Spots(even(count, self.steps)))
        return _distinct([Candidate(between, one, self.steps) for one in spots])

    def affordable(self, between: Between, limit: float) -> int:
        """How many steps can be full at that cost; 0 where not even the first."""
        low, high = 0, self.steps
        while low < high:  # costs rise with the count
            middle = (low + high + 1) // 2
            if self.price.cost(between.placed(Spots(tuple(range(middle))), self.steps)) <= limit:
                low = middle
            else:
                high = middle - 1
        return low

    def placed(self, between: Between, count: int, coherent: bool = True) -> tuple[int, ...]:
        """The `count` full steps of least expected loss."""
        key = (str(between.policy), coherent)
        if key not in self._placements:
            self._placements[key] = serving_costs(self.gram, self.weights, between.policy, coherent=coherent)
        return place(self._placements[key], count)[0]

    def halved(self, candidates: Sequence[Candidate]) -> Candidate:
        """The best of `candidates`, the worse half of which is dropped after the first batch of pictures."""
        left = list(candidates)
        if len(self.draws.batches) > 1 and len(left) > _SPARED:
            first = sorted(left, key=lambda one: self.draws.loss(one.method, 1))
            left = first[: max(_SPARED, (len(left) + 1) // 2)]
        return min(left, key=self.loss)

    def varied(self, best: Candidate, limit: float) -> Candidate:
        """`best`, or the best of its variants and of theirs: one thing changed at a time, as long as that helps."""
        seen = {*self.betweens}
        while True:
            new = [one for one in variants(best.between, self.anatomies) if one not in seen]
            seen.update(new)
            starts = [start for between in new for start in self._alike(best, between, limit)]
            found = self._better(best, starts)
            if found == best:
                return best
            best = found

    def _better(self, best: Candidate, others: Sequence[Candidate]) -> Candidate:
        """`best`, or the best of `others` where that loses less over all pictures, whatever the first batch said."""
        found = self.halved(others) if others else best
        return found if self.loss(found) < self.loss(best) else best

    def refined(self, start: Candidate, trials: int, enough: Callable[[float], bool] = lambda loss: False) -> Candidate:
        """The best that a local search from `start` finds; it ends early where a loss is `enough`."""

        def measure(spots: Spots) -> float:
            found = self.loss(Candidate(start.between, spots, self.steps))
            if enough(found):
                raise _Enough(spots)
            return found

        try:
            spots = refine(start.spots, self.steps, measure, max(1, trials))
        except _Enough as found:
            spots = found.spots
        return Candidate(start.between, spots, self.steps)

    def fastest(self, max_loss: float, trials: int) -> Candidate:
        """The cheapest candidate that loses at most `max_loss`.

        Plain reuse is bisected to find the cost at which that loss lies; all ways to fill the steps between are
        compared there; the best of them is bisected further down, and at the cost below that it is refined.

        Raises OptionError where not even the mildest one loses so little.
        """
        reuse = self.betweens[0]
        count = self._least(lambda count: self._at(reuse, count), range(1, self.steps), max_loss)
        if count is None:
            mildest = self.loss(self._at(reuse, self.steps - 1))
            raise OptionError(
                f"max_loss={max_loss:g} is not allowed: with one step of {self.steps} reused the loss is {mildest:.3g} "
                "already; allowed: more than that"
            )
        found = self._at(reuse, count)
        limit = self.price.cost(found.method)
        starts = [one for between in self.betweens for one in self.starts(between, limit)]
        best = self.varied(self._better(found, starts), limit)
        limits = [self.price.cost(self._at(reuse, fewer).method) for fewer in range(1, count + 1)]

        def at(number: int) -> Candidate:
            # a way that cannot be had so cheaply stands for the cheapest that can
            starts = [one for limit in limits[number:] for one in self.starts(best.between, limit)[:1]]
            return starts[0] if starts else best

        number = self._least(at, range(len(limits)), max_loss)
        if number is not None and self.price.cost(at(number).method) < self.price.cost(best.method):
            best = at(number)
        return self._lower(best, limits, max_loss, trials)

    def _lower(self, best: Candidate, limits: Sequence[float], max_loss: float, trials: int) -> Candidate:
        """`best`, or what a local search finds at the next lower cost, and the next, as long as it holds the loss."""
        for limit in reversed([limit for limit in limits if limit < self.price.cost(best.method)]):
            starts = self.starts(best.between, limit)
            if not starts:
                break
            moved = self.refined(self.halved(starts), trials, lambda loss: loss <= max_loss)
            if self.loss(moved) > max_loss:
                break
            best = moved
        return best

    def loss(self, candidate: Candidate) -> float:
        """Over all pictures that are tuned on."""
        found = self.draws.loss(candidate.method)
        self.tell_best(candidate, found)
        return found

    def _at(self, between: Between, count: int) -> Candidate:
        return Candidate(between, Spots(self.placed(between, count)), self.steps)

    def _least(self, at: Callable[[int], Candidate], numbers: range, max_loss: float) -> int | None:
        """The least of `numbers` at which the loss is small enough, if it falls with them; None where it never is."""
        low, high = numbers.start, numbers.stop
        while low < high:
            middle = (low + high) // 2
            if self.loss(at(middle)) <= max_loss:
                high = middle
            else:
                low = middle + 1
        return low if low < numbers.stop else None

    def _alike(self, best: Candidate, between: Between, limit: float) -> Iterator[Candidate]:
        """Filled in another way: with as many full steps as `best` has, and with those that this way can afford."""
        count = self.affordable(between, limit)
        if between.tokens is None:
            yield from [Candidate(between, Spots(self.placed(between, count)), self.steps)] if count else []
            return
        for full in sorted({min(count, len(best.spots.full)), round(_THINNED[1] * count)} - {0}):
            found = self._with_tokens(between, full, limit)
            if found is not None:
                yield found

    def _with_tokens(self, between: Between, count: int, limit: float) -> Candidate | None:
        """`count` full steps, and as many partial ones as `limit` allows beside them; None where it allows none."""
        full = self.placed(between, count)

        def candidate(partial: int) -> Candidate:
            return Candidate(between, Spots(full, place_tokens(self.gram, self.weights, full, partial)), self.steps)

        low, high = 0, self.steps - count
        while low < high:
            middle = (low + high + 1) // 2
            if self.price.cost(candidate(middle).method) <= limit:
                low = middle
            else:
                high = middle - 1
        return candidate(low) if low else None


class _Enough(Exception):
    def __init__(self, spots: Spots) -> None:
        super().__init__()
        self.spots = spots


def even(count: int, steps: int) -> tuple[int, ...]:
    """`count` full steps of `steps` at even distances."""
    return tuple(number * steps // count for number in range(count))


def _distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    return list({str(one.method): one for one in candidates}.values())
