"""The true benefit of computing a token: found by computing it, and it alone, in a step that is served otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tocache.analysis.forwards import Forward, answer_of, length
from tocache.analysis.places import Indices, lattice, sites_of, spaced, text_before
from tocache.analysis.subject import Drawn, Subject
from tocache.errors import OptionError
from tocache.methods import Uncached
from tocache.plan import Anatomy

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """Where the benefit of tokens is measured.

    interval  every so many steps one is full; in all others everything is served from the cache
    steps     how many of these are looked at, each the last before a full one
    sites     how many sites of each kind, at even distances
    kinds     of sites
    tokens    how many of the image's tokens, at most
    """

    interval: int
    steps: int
    sites: int
    kinds: tuple[str, ...]
    tokens: int

    def steps_of(self, steps: int) -> list[int]:
        """The steps that are looked at in a run of `steps`: there have been two full steps before each."""
        last = [step for step in range(steps) if step % self.interval == self.interval - 1 and step > self.interval]
        return [last[k] for k in spaced(len(last), self.steps)]

    def sites_of(self, anatomy: Anatomy) -> list[int]:
        """The sites that are looked at, by index. Raises OptionError where a kind is none of the model's."""
        found: list[int] = []
        for kind in self.kinds:
            members = [i for i in sites_of(anatomy, (kind,)) if anatomy.sites[i].rows]
            found += [members[k] for k in spaced(len(members), self.sites)]
        return sorted(found)

    def is_full(self, step: int) -> bool:
        return step % self.interval == 0


@dataclass(frozen=True)
class Benefits:
    """benefit[step, pass, site] (pictures, tokens): by what share of the answer's squared error it falls.

    That is 1 for a token that would make the answer as it is when all is computed, and negative for one that makes it
    worse. `tokens` are those of the image that were tried, `shape` how they lie; `stale` by (step, pass) is the
    relative error of the answer when everything is served, (pictures,).
    """

    benefit: dict[tuple[int, int, int], Floats]
    stale: dict[tuple[int, int], Floats]
    tokens: Indices
    shape: tuple[int, ...]
    drawn: Drawn


class Kept:
    """The features of full steps, given in place of what is computed in the steps after them: reuse, by hand.

    All is computed none the less, so that any one token of it can be let through.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.features: dict[tuple[int, str], Tensor] = {}
        self.serving = True
        self.through: tuple[str, int] | None = None  # the site and the token that is computed

    def give(self, step: int, number: int, site: str, value: Tensor) -> Tensor | None:
        """What stands in place of a site's `value`."""
        key = (number, site)
        if self.setting.is_full(step) or key not in self.features or self.features[key].shape != value.shape:
            self.features[key] = value
            return None
        if not self.serving:
            return None
        kept = self.features[key]
        if self.through is None or self.through[0] != site:
            return kept
        token, mixed = self.through[1], kept.clone()
        mixed[:, token] = value[:, token]
        return mixed


def find_benefits(subject: Subject, setting: Setting) -> Benefits:
    """One run in which full steps and served ones take turns; in some of the latter, each token is tried by itself.

    Raises OptionError where the run is too short for that.
    """
    kept = Kept(setting)
    benefit: dict[tuple[int, int, int], Floats] = {}
    stale: dict[tuple[int, int], Floats] = {}
    tried: list[Any] = []

    def measure(forward: Forward) -> Any:
        if forward.step not in setting.steps_of(forward.steps):
            return forward.make()
        anatomy = forward.plan.anatomies[forward.number]
        places = lattice(anatomy.shape.tokens["image"], anatomy.shape.grid, setting.tokens)
        tried[:] = [places]

        def answer(output: Any) -> Tensor:
            return answer_of(output, forward, subject.guidance)

        kept.serving = False
        true = answer(forward.make())
        kept.serving = True
        served = forward.make()
        error = length(answer(served) - true).square()
        stale[forward.step, forward.number] = (error.sqrt() / length(true)).cpu().numpy()
        members = setting.sites_of(anatomy)
        for turn, i in enumerate(members):
            subject.tell(f"step {forward.step}", turn, len(members))
            site = anatomy.sites[i]
            before, gains = text_before(anatomy, site), []
            for token in places.index:
                kept.through = (site.name, before + int(token))
                left = length(answer(forward.make_from(site)) - true).square()
                gains.append(((error - left) / error.clamp_min(1e-30)).cpu().numpy())
            kept.through = None
            benefit[forward.step, forward.number, i] = np.stack(gains, axis=1)
        return served

    drawn = subject.draw(Uncached(), on_output=kept.give, on_forward=measure)
    if not tried:
        raise OptionError(
            f"interval={setting.interval} is not allowed; allowed with {drawn.plan.steps} steps: such that a served "
            "step comes after two full ones"
        )
    return Benefits(benefit, stale, tried[0].index, tried[0].shape, drawn)
