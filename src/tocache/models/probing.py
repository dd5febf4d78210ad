"""Finds out what the sub-layers of an unlisted transformer do, by looking at them while one forward runs."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from tocache.engine.intercept import plain_class
from tocache.engine.probe import Probe, Seen
from tocache.models.costs import flop_counter, linear_moved, linear_weights

# how far a module's output for some tokens may be from its rows for all: rounding, as a share of the largest number
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
_TOLERANCE_HALF = 0.05


@dataclass(frozen=True)
class Found:
    """What was seen of one module: it takes and gives streams (rows, tokens, width).

    `outputs` are the tokens and widths of what it returns, in order; `unread` counts the None's behind them.
    """

    rows: int
    tokens: int
    outputs: tuple[tuple[int, int], ...]
    unread: int
    token_wise: bool  # each token by itself: with some of the tokens it returned the same rows
    attends: bool  # it calls scaled_dot_product_attention
    keys: int  # of that attention; 0 where there is none
    flops: int  # of the whole call; of a token-wise one, what grows with its tokens
    weights: int  # parameters of its linear layers
    moved: int  # numbers that it reads and writes for one token


def probe(transformer: Any, paths: Sequence[str], arguments: Mapping[str, Any]) -> dict[str, Found | str]:
    """Runs `transformer` once with these arguments; what each module at `paths` does, or why it cannot be cached."""
    found: dict[str, Found | str] = dict.fromkeys(paths, "it was not called")
    known: dict[tuple[Any, ...], Found | str] = {}
    called: set[str] = set()
    handles = []
    for path in paths:

        def note(module: Any, args: Any, kwargs: Any, output: Any, path: str = path) -> None:
            if path in called:
                found[path] = "it is called more than once in a forward"
                return
            called.add(path)
            # the blocks of a stack are alike: one of each kind is looked into
            stack, _, rest = path.partition(".")
            key = (stack, rest.partition(".")[2], type(module), repr(module), _shapes((args, kwargs, output)))
            if key not in known:
                known[key] = _look(module, args, kwargs, output)
            found[path] = known[key]

        handles.append(transformer.get_submodule(path).register_forward_hook(note, with_kwargs=True))
    try:
        with torch.no_grad():
            _call(transformer, arguments)
    finally:
        for handle in handles:
            handle.remove()
    return found


@contextmanager
def single_streams(transformer: Any, stacks: Iterable[str]) -> Iterator[set[str]]:
    """While a forward runs: those of `stacks` whose first block gives one tensor, like its first argument.

    Left out when it is over are those between whose blocks another one's ran.
    """
    found: set[str] = set()
    ran: list[str] = []  # the stack of each block, in running order
    handles = []
    for stack in stacks:

        def note(block: Any, args: Any, kwargs: Any, output: Any, stack: str = stack) -> None:
            given = args[0] if args else next(iter(kwargs.values()), None)
            if isinstance(given, torch.Tensor) and _is_stream(output) and output.shape == given.shape:
                found.add(stack)

        blocks = transformer.get_submodule(stack)
        handles.append(blocks[0].register_forward_hook(note, with_kwargs=True))
        handles += [block.register_forward_hook(lambda *_, stack=stack: ran.append(stack)) for block in blocks]
    try:
        yield found
        found -= {stack for stack, spells in Counter(stack for stack, _ in groupby(ran)).items() if spells > 1}
    finally:
        for handle in handles:
            handle.remove()


def shapes_of(arguments: Mapping[str, Any]) -> tuple[Any, ...]:
    """The shapes of all tensors in `arguments`, as something that can be compared."""
    return _shapes(tuple(arguments.items()))


def _call(transformer: Any, arguments: Mapping[str, Any]) -> None:
    forward = plain_class(transformer).forward
    bound = inspect.signature(forward).bind_partial()
    bound.arguments.update(arguments)
    bound.arguments[next(iter(bound.signature.parameters))] = transformer
    forward(*bound.args, **bound.kwargs)


def _look(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Found | str:
    x, again = _first(module, args, kwargs)
    if not _is_stream(x):
        return "its first argument is no stream of tokens"
    given = list(output) if isinstance(output, tuple) else [output]
    unread = 0
    while given and given[-1] is None:
        given.pop()
        unread += 1
    if not given or not all(_is_stream(y) and y.shape[0] == x.shape[0] for y in given):
        return "what it returns is no stream of tokens"
    seen, flops = _watched(lambda: again(x))
    plain = len(seen) == 1 and seen[0].query.shape[0] == x.shape[0] and seen[0].plain
    token_wise = False
    if len(given) == 1 and not unread and given[0].shape[1] == x.shape[1] > 1:
        some = torch.arange(1, x.shape[1], 2, device=x.device)
        few = _flops_of_few(given[0][:, some], lambda: again(x[:, some]), [call.key.shape for call in seen])
        if few is not None:
            # what does not grow with the tokens is of the text
            token_wise, flops = True, (flops - few) * x.shape[1] // (x.shape[1] - len(some))
    return Found(
        rows=x.shape[0],
        tokens=x.shape[1],
        outputs=tuple((y.shape[1], y.shape[2]) for y in given),
        unread=unread,
        token_wise=token_wise,
        attends=plain,
        keys=seen[0].key.shape[2] if plain else 0,
        flops=flops,
        weights=linear_weights([module]),
        moved=linear_moved([module])
        + 4 * given[0].shape[2] * bool(seen),  # an attention's queries, keys, values, output
    )


def _flops_of_few(expected: torch.Tensor, compute: Callable[[], Any], keys: list[Any]) -> int | None:
    """FLOPs of `compute`, which runs a module on some of its tokens; None where that does not give the `expected` rows.

    Nor does it count where the keys that those tokens attend to are others.
    """
    try:
        seen, flops = _watched(compute)
        few = compute()
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):  # it needs all tokens, or their positions
        return None
    if not isinstance(few, torch.Tensor) or few.shape != expected.shape or [call.key.shape for call in seen] != keys:
        return None
    allowed = _TOLERANCE.get(expected.dtype, _TOLERANCE_HALF) * float(expected.abs().max())
    return flops if float((few - expected).abs().max()) <= allowed else None


def _watched(compute: Callable[[], Any]) -> tuple[list[Seen], int]:
    """The attentions that `compute` calls, and its FLOPs."""
    seen: list[Seen] = []
    try:
        with Probe(seen.append):
            compute()
    except TypeError:  # compiled attention (flex_attention) lets nobody look
        seen.clear()
    with flop_counter() as counter:
        compute()
    return seen, counter.get_total_flops()


def _first(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Callable[[Any], Any]]:
    """The first argument of a call, and the call with another in its place; past the hooks on the module."""
    if args:
        return args[0], lambda x: module.forward(x, *args[1:], **kwargs)
    name = next(iter(kwargs), "")
    return kwargs.get(name), lambda x: module.forward(**kwargs | {name: x})


def _is_stream(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.dim() == 3 and x.is_floating_point()


def _shapes(value: Any) -> tuple[Any, ...]:
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    if isinstance(value, Mapping):
        value = tuple(value.items())
    if isinstance(value, list | tuple):
        return tuple(_shapes(each) for each in value)
    return (value,) if isinstance(value, str | int) else ()
