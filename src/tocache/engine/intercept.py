"""Takes over the calls of a single object, without renaming anything in it.

The object's class is replaced by a subclass made for the purpose, which looks in the instance for a handler. Of the
ways to get between a caller and a module this one leaves state-dict keys alone (LoRA, saving), stands outside the
hooks that accelerate and diffusers put on an instance's `forward` (so a module that is served from the cache moves no
weights), and lives in the type, so that no closure over the original survives a deep copy: copies and pickles come
out as the plain class, with nothing attached.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

Call = Callable[..., Any]
Handler = Callable[[Call, tuple[Any, ...], dict[str, Any]], Any]

_ATTACHED = "_tocache"
_SUBCLASSES: dict[tuple[type, tuple[str, ...]], type] = {}
_T = TypeVar("_T")


@dataclass
class _Attached:
    """All that an intercepted object carries: nothing of it goes into a copy or a pickle."""

    handlers: dict[str, Handler] = field(default_factory=dict)
    owner: Any = None


def intercept(target: Any, handlers: dict[str, Handler], owner: Any = None) -> None:
    """From now on calls of the named methods of `target` go to `handler(original, args, kwargs)`.

    Methods are named as the class names them ("__call__", "step"). Handlers that `target` had before are replaced.
    `owner` is whatever `owner_of(target)` shall return.
    """
    base = plain_class(target)  # also of an object that the class of an intercepted one has made
    # set past the class's own __setattr__: torch modules and pipelines register what is set on them
    target.__dict__[_ATTACHED] = _Attached(dict(handlers), owner)
    object.__setattr__(target, "__class__", _subclass(base, tuple(sorted(handlers))))


def release(target: Any) -> None:
    """Gives `target` back its own class. Does nothing where it was never intercepted."""
    if target.__dict__.pop(_ATTACHED, None) is not None:
        object.__setattr__(target, "__class__", type(target)._tocache_base)


def owner_of(target: Any) -> Any | None:
    """Who intercepted `target`, or None."""
    attached: _Attached | None = getattr(target, "__dict__", {}).get(_ATTACHED)
    return None if attached is None else attached.owner


def plain_class(target: _T) -> type[_T]:
    """The class that `target` has when nothing is attached to it."""
    return getattr(type(target), "_tocache_base", type(target))


def _subclass(base: type, methods: tuple[str, ...]) -> type:
    """The subclass of `base` that redirects `methods`, made once: equal classes must be one class to torch.compile."""
    if (base, methods) not in _SUBCLASSES:
        _SUBCLASSES[base, methods] = _make_subclass(base, methods)
    return _SUBCLASSES[base, methods]


def _make_subclass(base: type, methods: tuple[str, ...]) -> type:
    namespace: dict[str, Any] = {name: _redirected(base, name) for name in methods}
    namespace |= {
        "__reduce_ex__": _reduce_as(base),
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "_tocache_base": base,
    }
    # The same name, because diffusers writes it into model_index.json and looks pipelines up by it.
    return _metaclass(type(base))(base.__name__, (base,), namespace)


@functools.cache
def _metaclass(of: type[type]) -> type[type]:
    """A metaclass whose classes equal their base: `from_pipe` asks whether `type(component)` is among known ones."""

    def base_of(cls: Any) -> Any:
        return vars(cls).get("_tocache_base", cls) if isinstance(cls, type) else cls

    def equal(cls: type, other: Any) -> bool:
        return base_of(cls) is base_of(other)

    return type(of.__name__, (of,), {"__eq__": equal, "__hash__": lambda cls: hash(base_of(cls))})


def _redirected(base: type, name: str) -> Call:
    original = getattr(base, name)

    # diffusers inspects the signatures of set_timesteps and of a pipeline's call
    @functools.wraps(original)
    def redirected(self: Any, *args: Any, **kwargs: Any) -> Any:
        attached = self.__dict__.get(_ATTACHED)
        if attached is None:  # a bound method that outlived its release
            return original(self, *args, **kwargs)
        return attached.handlers[name](functools.partial(original, self), args, kwargs)

    return redirected


def _reduce_as(base: type) -> Call:
    def reduce_ex(self: Any, protocol: Any) -> tuple[Any, ...]:
        state = {key: value for key, value in self.__dict__.items() if key != _ATTACHED}
        return _blank, (base,), state

    return reduce_ex


def _blank(base: type[_T]) -> _T:
    """An instance without state, for unpickling; pickle's own helper insists on the class that was replaced."""
    return base.__new__(base)
