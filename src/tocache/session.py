"""What is enabled on a pipeline or a bare transformer, and how pipelines share a transformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tocache.engine.engine import Engine
from tocache.engine.follow import Follower, can_follow, transformers_of
from tocache.engine.graphs import Compiled
from tocache.engine.intercept import owner_of
from tocache.engine.turn import turn_of
from tocache.errors import NotEnabledError, OptionError, PlanMismatchError, RunError, UnsupportedModelError
from tocache.methods import Method, Planned
from tocache.models.registry import family_of
from tocache.plan.anatomy import Anatomy
from tocache.plan.plan import Plan
from tocache.plan.policy import Policy
from tocache.presets import BALANCED, preset

_IN_A_RUN = "this transformer is in a tocache.run(…) of another pipeline; leave it"


class Session:
    """What is enabled on one pipeline or bare transformer."""

    def __init__(
        self,
        target: Any,
        method: Method | None,
        storage: str | None,
        offload: bool | None,
        modulate_ahead: bool = False,
    ) -> None:
        self.target = target
        self.asked = method
        self.storage = storage
        self.offload = offload
        self.modulate_ahead = modulate_ahead
        self.compiled: Compiled | None = None
        self.follower: Follower | None = None
        self.sharers = [self]  # the sessions of all pipelines with this transformer, one list for all of them
        transformer = transformer_of(target)
        self.engine = self._engine_of(transformer)
        if transformer is not target:
            if not can_follow(getattr(target, "scheduler", None)):
                scheduler = type(getattr(target, "scheduler", None)).__name__
                raise UnsupportedModelError(
                    f"{type(target).__name__}'s scheduler ({scheduler}) has no set_timesteps and step to follow; "
                    "enable its transformer alone, and open a run around each sampling loop"
                )
            self.follower = Follower(target, self.engine, self.claim, self._move, owner=self)

    @property
    def method(self) -> Method:
        return self.asked or preset(BALANCED, family_of(self.engine.transformer).name)

    def check(self) -> None:
        """Refuses a method that the model cannot follow; token counts are known at the first forward only."""
        family, transformer = family_of(self.engine.transformer), self.engine.transformer
        holder = session_of(transformer)
        if holder is not None and holder.engine.explicit and holder is not replaced_by(self.target):
            raise RunError(_IN_A_RUN)
        Policy(storage=self.storage or "same")
        if self.modulate_ahead and self.engine.conditioned is None:
            raise OptionError(
                f"modulate_ahead=True is not allowed for {family.name}, whose blocks compute no modulation that could "
                "be known ahead; allowed: False"
            )
        if not family.known(transformer):
            if isinstance(self.asked, Planned):
                other = self.asked.given.anatomies[0].other_than(family.name, family.model_name(transformer))
                if other:
                    raise PlanMismatchError(f"the plan was made for something else; {other}")
            return
        usual = family.anatomy(transformer, family.default_pass(transformer, pictures=1, guided=True, itemsize=2))
        if not isinstance(self.asked, Planned):
            self.plan([usual], family.default_steps)
            return
        plan = self.asked.given.stored(storage=self.storage, offload=self.offload)
        same = (plan.anatomies[0].family, plan.anatomies[0].model) == (usual.family, usual.model)
        plan.rebased([family.anatomy(transformer, a.shape) for a in plan.anatomies] if same else [usual])

    def compile(self, how: Compiled | None, before: Session | None = None) -> None:
        """From the next run on; None: steps run as they are. Graphs that `before` has made are kept where they fit."""
        with turn_of(self.engine.transformer):
            self.compiled = how
            self.engine.compile(how, None if before is None else before.engine)

    def attach(self) -> None:
        self._join()
        if self.follower is not None:
            self.follower.attach()

    def detach(self) -> None:
        with turn_of(self.engine.transformer):  # another thread's pipeline may be drawing
            if self.follower is not None:
                self.follower.detach()
            self._leave()

    def claim(self) -> None:
        """The transformer gets this session's cache; of several pipelines that share one, it is that of the running."""
        holder = session_of(self.engine.transformer)
        if holder is self:
            return
        if holder is not None and holder.engine.explicit:
            raise RunError(_IN_A_RUN)
        if holder is not None:
            holder.engine.detach()
        self.engine.attach()

    def _join(self) -> None:
        """Shares the transformer with the pipelines that have it; a bare one has a single method."""
        with turn_of(self.engine.transformer):
            holder = session_of(self.engine.transformer)
            if holder is not None and (self.follower is None or holder.follower is None):
                release(self.engine.transformer)
                holder = None
            self.claim()
            if holder is not None:
                self.sharers = holder.sharers
                self.sharers.append(self)

    def _leave(self) -> None:
        with turn_of(self.engine.transformer):
            others = [session for session in self.sharers if session is not self]
            self.sharers.remove(self)
            self.sharers = [self]
            self.engine.close()
            if session_of(self.engine.transformer) is self:
                self.engine.detach()
                if others:
                    others[-1].engine.attach()

    def _engine_of(self, transformer: Any) -> Engine:
        others = () if transformer is self.target else transformers_of(self.target)[1:]
        family = family_of(transformer)
        ahead = family.conditioned(transformer) if self.modulate_ahead else None
        return Engine(transformer, family, self.plan, owner=self, others=others, conditioned=ahead)

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        plan = self.method.plan(anatomies, steps).stored(storage=self.storage, offload=self.offload)
        return plan if self.compiled is None else plan.rounded(self.compiled.multiple)

    def _move(self, transformer: Any) -> Engine:
        """Another transformer was assigned to the pipeline: it gets the cache in the old one's place."""
        old, new = self.engine, self._engine_of(transformer)
        self._leave()
        new.listen_like(old)
        self.engine = new
        self.compile(self.compiled)
        self._join()
        return new


def transformer_of(target: Any) -> Any:
    """A bare transformer itself, or a pipeline's first. Raises UnsupportedModelError where there is none."""
    if isinstance(target, torch.nn.Module):
        return target
    found = transformers_of(target)
    if not found:
        raise UnsupportedModelError(f"{type(target).__name__} is neither a transformer nor a pipeline that has one")
    return found[0]


def session_of(target: Any) -> Session | None:
    """What is enabled on `target`."""
    session: Session | None = owner_of(target)
    return session


def replaced_by(target: Any) -> Session | None:
    """What `enable(target)` takes the place of: other pipelines with its transformer keep theirs."""
    holder = session_of(transformer_of(target))
    return session_of(target) or (holder if holder is not None and holder.follower is None else None)


def required(target: Any) -> Session:
    """What is enabled on `target`. Raises NotEnabledError where nothing is."""
    session = session_of(target)
    if session is None:
        raise NotEnabledError(f"no cache is enabled on this {type(target).__name__}; call tocache.enable(…) first")
    return session


def release(target: Any) -> None:
    """Takes off what is enabled on `target`; off a transformer, what all pipelines with it have."""
    session = session_of(target)
    if session is not None:
        for each in [*session.sharers] if target is session.engine.transformer else [session]:
            each.detach()
