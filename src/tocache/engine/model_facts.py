"""Whether a model can be cached, whether its forward can be a graph, and on what else than its inputs that depends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from tocache.engine.intercept import plain_class
from tocache.errors import RunError

_PLAIN = (int, float, bool, str, type(None))
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def refuse_training(model: torch.nn.Module) -> None:
    """Raises RunError where `model` is being trained."""
    name = plain_class(model).__name__
    if model.training:
        raise RunError(f"{name} is in training mode, and a cache is for inference; call eval() on it")
    # its blocks would run a second time in the backward pass, where no step is going on
    if torch.is_grad_enabled() and getattr(model, "gradient_checkpointing", False):
        raise RunError(
            f"{name} has gradient checkpointing on, and a cache is for inference; draw under torch.no_grad(), or "
            "call disable_gradient_checkpointing() on it"
        )


class Fingerprint:
    """Differs when a module, a processor, a weight or a plain attribute was exchanged: a LoRA, its scale, a device.

    Objects are told apart by their identity, so a fingerprint holds on to them: nothing new can get an old one's.
    """

    def __init__(self, *models: torch.nn.Module) -> None:
        self._objects: list[Any] = []
        self._facts = [fact for model in models for fact in self._of(model)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fingerprint) and self._facts == other._facts

    __hash__ = None  # type: ignore[assignment]

    def _of(self, model: torch.nn.Module) -> Iterator[Any]:
        for module in model.modules():
            yield self._identity(module)
            for name, value in vars(module).items():
                if isinstance(value, _PLAIN):
                    yield name, value
                elif isinstance(value, dict) and not name.startswith("_"):
                    yield from ((name, str(key), entry) for key, entry in value.items() if isinstance(entry, _PLAIN))
                elif isinstance(value, (list, tuple)) and all(isinstance(entry, _PLAIN) for entry in value):
                    yield name, *value
                elif not isinstance(value, (dict, list, tuple, set)) and not name.startswith("_"):
                    yield name, self._identity(value)  # a processor; what intercepts a call is private
            for tensor in (*module._parameters.values(), *module._buffers.values()):
                if tensor is not None:
                    yield self._identity(tensor), tensor.data_ptr(), tensor.dtype, tensor.device

    def _identity(self, value: Any) -> int:
        self._objects.append(value)
        return id(value)


def cannot_be_a_graph(model: torch.nn.Module) -> str | None:
    """Why the forward of `model` is more than its operations, or None."""
    for name, module in model.named_modules():
        if hasattr(module, "_hf_hook") or any(getattr(module, hooks) for hooks in _HOOKS):
            return f"{name or type(model).__name__} has hooks, such as those that offload its weights"
        if module._compiled_call_impl is not None:
            return f"{name or type(model).__name__} is compiled already"
    return None
