"""How diffusers' caches are switched on and off, on transformers that they know and on others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from tocache.evaluation.contenders import PEER, Contender


def cached(
    curve: str,
    setting: str,
    config: Callable[[Any, Callable[[], float]], Any],
    apply: str,
    *,
    adaptive: bool = False,
    always: bool = False,
) -> Contender:
    """A setting of one of diffusers' caches.

    config   (pipeline, clock) → the cache's configuration; clock() is the timestep of the forward under way
    apply    name of the function in `diffusers.hooks` that puts it on a transformer
    adaptive, always   as in Contender
    """

    @contextmanager
    def use(pipe: Any) -> Iterator[None]:
        with warnings.catch_warnings(), _timestep(pipe) as clock, hooked(pipe, config(pipe, clock), apply):
            warnings.simplefilter("ignore", UserWarning)  # of what the package calls in torch; nothing to do about it
            yield

    return Contender(curve, setting, PEER, use, adaptive=adaptive, always=always)


@contextmanager
def hooked(pipe: Any, config: Any, apply: str) -> Iterator[None]:
    """One of diffusers' caches on the pipeline's transformer for the time being, for one call.

    A transformer with `enable_cache` gets it so, and its pipeline gives the contexts. Others get the same hooks by
    `diffusers.hooks.apply_…`, and one context around the whole call, without which the hooks refuse. Raises ValueError
    where a cache finds no module to hook, which diffusers does not tell.
    """
    from diffusers import hooks
    from diffusers.models.cache_utils import CacheMixin

    transformer = pipe.transformer
    own = isinstance(transformer, CacheMixin)
    before = _names(transformer)
    with restored(transformer):
        if own:
            transformer.enable_cache(config)
        else:
            getattr(hooks, apply)(transformer, config)
            registry: Any = hooks.HookRegistry.check_if_exists_or_initialize(transformer)
            registry.invalidate_child_registries_cache()  # contexts must reach hooks that are newer than its list
        try:
            if _names(transformer) == before:
                raise ValueError(f"{apply}: no module of {type(transformer).__name__} matches, so it does nothing")
            with nullcontext() if own else CacheMixin.cache_context(transformer, "run"):
                yield
        finally:
            if own:
                transformer.disable_cache()


@contextmanager
def restored(transformer: Any) -> Iterator[None]:
    """Afterwards no module has an attribute or a hook that it did not have before, and its children stand in order.

    What packages leave when they are switched off the next contender would run over: cache-dit its `forward` on FLUX's
    transformer, and the stacks of blocks in another order, by which FirstBlockCache finds the first; diffusers its
    empty registries.
    """
    names = _names(transformer)
    before = {path: set(vars(module)) for path, module in transformer.named_modules()}
    order = {path: list(module._modules) for path, module in transformer.named_modules()}
    try:
        yield
    finally:
        for path, name in _names(transformer) - names:
            transformer.get_submodule(path)._diffusers_hook.remove_hook(name, recurse=False)
        for path, module in transformer.named_modules():
            for key in set(vars(module)) - before.get(path, set(vars(module))):
                vars(module).pop(key)
            for child in order.get(path, ()):
                if child in module._modules:
                    module._modules[child] = module._modules.pop(child)


@contextmanager
def _timestep(pipe: Any) -> Iterator[Callable[[], float]]:
    """The timestep, from 1000 down to 0, of the transformer's newest forward: not every pipeline tells its own."""
    now = 1000.0

    def note(module: Any, args: Any, kwargs: Any) -> None:
        nonlocal now
        if (given := kwargs.get("timestep")) is not None:
            time = float(given.max())
            now = time * 1000 if time <= 1 else time  # FLUX counts from 1 to 0

    hook = pipe.transformer.register_forward_pre_hook(note, with_kwargs=True, prepend=True)
    try:
        yield lambda: now
    finally:
        hook.remove()


def _names(transformer: Any) -> set[tuple[str, str]]:
    """(path of module, name of hook) of all of diffusers' hooks in a transformer."""
    registries = {path: getattr(module, "_diffusers_hook", None) for path, module in transformer.named_modules()}
    return {(path, name) for path, registry in registries.items() if registry is not None for name in registry.hooks}
