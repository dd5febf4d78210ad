"""Which implementation of an operation runs: plain torch, or another that was registered for the device."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, Generic, TypeVar

import torch
from torch._subclasses.fake_tensor import FakeTensor

from tocache.errors import OptionError, UnknownNameError

F = TypeVar("F", bound=Callable[..., Any])

TORCH, TRITON, AUTO = "torch", "triton", "auto"
VARIABLE = "TOCACHE_KERNELS"
"""Environment variable that says what "auto" means: torch, triton, or auto again."""


class Backends(Generic[F]):
    """The implementations of one operation, by name; they take the same arguments.

    Args:
        reference: in plain torch, for every device.
        triton: imports the Triton one, which is called where tensors are on a GPU or Triton's interpreter is on.
    """

    def __init__(self, reference: F, triton: Callable[[], F] | None = None) -> None:
        self._functions: dict[str, tuple[F, frozenset[str]]] = {TORCH: (reference, frozenset())}
        self._triton = triton

    @property
    def names(self) -> tuple[str, ...]:
        """Of all implementations that can be named here, in the order of their registration."""
        return (*self._functions, *((TRITON,) if self._triton is not None and has_triton() else ()))

    def register(self, name: str, function: F, *, devices: Sequence[str] = ()) -> None:
        """Adds an implementation, or replaces the one of that name.

        `devices` are the device types ("cuda", …) on which "auto" prefers it; of several, the one registered last.
        """
        self._functions.pop(name, None)
        self._functions[name] = (function, frozenset(devices))

    def find(self, name: str, device: torch.device) -> F:
        """The implementation called `name`, or "auto" on `device`.

        "auto" is what was registered for the device, or torch. Triton's is not, until its speed on a GPU stands in
        benchmarks/results: before that it is taken where `TOCACHE_KERNELS=triton` says so and it can run.
        Raises UnknownNameError, and OptionError for "triton" where it cannot run.
        """
        if name == AUTO:
            name = os.environ.get(VARIABLE, AUTO)
            if name == TRITON and not (TRITON in self.names and runs_triton(device)):
                name = AUTO
        if name == AUTO:
            preferred = [known for known, (_, devices) in self._functions.items() if device.type in devices]
            name = preferred[-1] if preferred else TORCH
        if name not in self.names:
            raise UnknownNameError.of("backend", name, (AUTO, *self.names))
        if name in self._functions:
            return self._functions[name][0]
        if not runs_triton(device):
            raise OptionError(f"backend='triton' cannot run on {device.type}; allowed: cuda, or TRITON_INTERPRET=1")
        assert self._triton is not None
        return self._triton()

    def of(self, name: str, tensor: torch.Tensor) -> F:
        """`find` for what `tensor` lies on; "auto" is torch's where it has no numbers, because it is being traced."""
        return self.find(TORCH if name == AUTO and isinstance(tensor, FakeTensor) else name, tensor.device)

    def fuses(self, tensor: torch.Tensor) -> bool:
        """Whether "auto" is another than the reference for `tensor`."""
        return self.of(AUTO, tensor) is not self._functions[TORCH][0]


@cache
def has_triton() -> bool:
    """Whether Triton is installed."""
    return find_spec("triton") is not None


def runs_triton(device: torch.device) -> bool:
    """Whether a kernel of Triton can run on tensors of `device`; on a CPU, in its interpreter alone."""
    return device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"
