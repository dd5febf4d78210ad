"""What a run did."""

from __future__ import annotations

from dataclasses import dataclass, field

from tocache.plan.memory import Lifetimes
from tocache.plan.plan import Plan


@dataclass
class Record:
    """What a run did, kept after it is over."""

    plan: Plan | None = None
    lifetimes: Lifetimes | None = None  # of what the plan keeps; others than its own after a hand-over
    computed: dict[tuple[int, int], list[int]] = field(default_factory=dict)  # (step, pass) → amount by site
    # (step, pass) → the plan that it followed, and the lifetimes: a batch may change its size on the way
    followed: dict[tuple[int, int], tuple[Plan, Lifetimes]] = field(default_factory=dict)
    left: Lifetimes | None = None  # of the plan that held most, of those that were followed for a while and given up
    overruled: int = 0  # sites that computed everything because nothing valid was cached
    peak_bytes: int = 0
    peak_device_bytes: int = 0  # of those, on the device
    seconds: list[float] = field(default_factory=list)  # wall-clock by step, as seen from the host
    steps: int = 0  # steps ended
    held_bytes: int = 0  # after the newest step
    modulated: int = 0  # passes whose modulation was computed ahead
    modulation_bytes: int = 0  # at most, of what was computed ahead
    unread: set[str] = field(default_factory=set)  # attentions whose queries and keys could not be seen
