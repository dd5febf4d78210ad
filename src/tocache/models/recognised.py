"""Transformers that no family lists, recognised by their structure: lists of blocks with attention and MLPs inside.

What the sub-layers do is not read off their names but seen in a probe: at the first forward of each shape the model
runs once more than it would, and every candidate shows what it takes and gives, whether it treats each token by itself,
and what it costs. What does not fit is left to the model.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch

from tocache.engine.intercept import plain_class
from tocache.engine.wiring import Attention, Layer, Stack, TokenWise
from tocache.errors import RunError, UnsupportedModelError
from tocache.models.base import ModelFamily
from tocache.models.probing import Found, probe, shapes_of, single_streams
from tocache.plan.anatomy import CROSS_ATTENTION, MLP, SELF_ATTENTION, Anatomy, Cost, Pass, Site
from tocache.plan.budget import Budget
from tocache.plan.policy import Policy
from tocache.plan.recipe import Recipe
from tocache.plan.schedule import Every

ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
FEED_FORWARD = re.compile(r"^(ff|ffn|mlp|feed_forward|feedforward)|_(ff|ffn|mlp)$", re.IGNORECASE)
IMAGE = "image"

RECOGNISED = Recipe(
    name="recognised",
    schedule=Every(3, warmup=3),
    budget=Budget(0.1, {CROSS_ATTENTION: 1.0, MLP: 1.0}),
    policy=Policy(scores={"norm": 1.0}, staleness=0.25),
    source="no constants were published for this model: three full steps, then one in three, and a tenth of the tokens "
    "in between, by the norm of their inputs, which every model has",
)

_known: WeakKeyDictionary[Any, Recognised] = WeakKeyDictionary()


def recognise(transformer: Any) -> Recognised | None:
    """What serves `transformer` if it has lists of blocks with attention and MLPs; the same for each call."""
    if transformer not in _known:
        paths = candidates(transformer)
        if not paths:
            return None
        _known[transformer] = Recognised(paths)
    return _known[transformer]


def candidates(transformer: Any) -> tuple[str, ...]:
    """Paths of the modules that may be sub-layers: in blocks that have both attention and an MLP, in running order."""
    paths: list[str] = []
    for stack, blocks in transformer.named_children():
        if isinstance(blocks, torch.nn.ModuleList):
            for b, block in enumerate(blocks):
                # some blocks are wrapped in another
                inner = getattr(block, "block", None)  # some blocks are wrapped in another
                holder, path = (block, f"{stack}.{b}") if inner is None else (inner, f"{stack}.{b}.block")
                paths += [f"{path}.{name}" for name in _sub_layers(holder)]
    return tuple(paths)


def _sub_layers(block: torch.nn.Module) -> list[str]:
    names = [name for name, child in block.named_children() if next(child.parameters(), None) is not None]
    names = [name for name in names if "norm" not in name]
    attention = [name for name in names if ATTENTION.search(name)]
    mlps = [name for name in names if FEED_FORWARD.search(name)]
    if not attention or not mlps:
        return []
    # a lone projection is half of an MLP, whose output is wider than what it would save
    return [*attention, *(name for name in mlps if not isinstance(block.get_submodule(name), torch.nn.Linear))]


class Recognised(ModelFamily):
    """One transformer that is not listed; what its probes have found is kept as long as it lives."""

    name = "recognised"
    classes = ()
    recipes = (RECOGNISED,)
    default_steps = 50
    default_guidance = 1.0

    def __init__(self, paths: tuple[str, ...]) -> None:
        self._paths = paths
        self._probed: dict[tuple[Any, ...], dict[str, Found]] = {}
        self._newest: dict[str, Found] | None = None  # what the newest forward was like
        self._apart: frozenset[str] = frozenset()  # stacks whose blocks hand on more than their first argument

    def layers(self, transformer: Any) -> Sequence[Layer]:
        found = self._newest
        if found is None:  # nothing is known yet: all of them might be
            return [TokenWise(path, path) for path in self._paths]
        layers: list[Layer] = []
        for path, module in found.items():
            if module.token_wise:
                layers.append(TokenWise(path, path))
            else:
                sites = _sites_of(path, module)
                layers.append(Attention(sites, path, (), (_group(found, module.tokens),), unread=module.unread))
        return layers

    def stacks(self, transformer: Any) -> Sequence[Stack]:
        names = dict.fromkeys(path.partition(".")[0] for path in self._paths)
        return tuple(Stack(name, _streams(transformer.get_submodule(name)[0])) for name in names)

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        shapes = shapes_of(arguments)
        if shapes not in self._probed:
            self._probed[shapes] = self._probe(transformer, arguments)
        found = self._newest = self._probed[shapes]
        rows = next(iter(found.values())).rows
        return Pass(rows, _groups(found), itemsize=int(transformer.dtype.itemsize))

    def grid(self, transformer: Any, arguments: Mapping[str, Any]) -> tuple[int, ...] | None:
        return None

    def known(self, transformer: Any) -> bool:
        return self._newest is not None

    def default_pass(self, transformer: Any, *, pictures: int, guided: bool, itemsize: int) -> Pass:
        return Pass(pictures, _groups(self._seen()), itemsize=itemsize)

    def anatomy(self, transformer: Any, shape: Pass) -> Anatomy:
        found = self._seen()
        sites: list[Site] = []
        costs: list[Cost] = []
        for path, module in found.items():
            stack, number, _ = path.split(".", 2)
            place: dict[str, Any] = {"stack": stack, "block": int(number)}
            own, prices = _parts(found, path, module, place | {"depth": len(transformer.get_submodule(stack))})
            sites += own
            costs += prices
        notes = (
            f"{plain_class(transformer).__name__} is not listed: its sub-layers were recognised by their structure and "
            "checked by a forward of their own",
            "norms, modulation and the text's key and value projections are not counted",
        )
        return Anatomy(
            self.name, self.model_name(transformer), shape, tuple(sites), tuple(costs), notes, apart=self._apart
        )

    def model_name(self, transformer: Any) -> str:
        depth = "+".join(str(len(transformer.get_submodule(stack.path))) for stack in self.stacks(transformer))
        return f"{plain_class(transformer).__name__} {depth}"

    def _probe(self, transformer: Any, arguments: Mapping[str, Any]) -> dict[str, Found]:
        stacks = [stack.path for stack in self.stacks(transformer)]
        with single_streams(transformer, stacks) as single:
            seen = probe(transformer, self._paths, arguments)
        self._apart = frozenset(stacks) - single
        fitting = {path: module for path, module in seen.items() if isinstance(module, Found)}
        if fitting:  # modules that fold frames or windows into their rows are left to the model
            rows = Counter(module.rows for module in fitting.values()).most_common(1)[0][0]
            fitting = {path: module for path, module in fitting.items() if module.rows == rows}
        if not fitting:
            reasons = sorted({reason for reason in seen.values() if isinstance(reason, str)})
            raise UnsupportedModelError(
                f"{plain_class(transformer).__name__} is not listed, and none of its sub-layers can be cached "
                f"({'; '.join(reasons)}); CONTRIBUTING.md has the recipe for a family"
            )
        return fitting

    def _seen(self) -> dict[str, Found]:
        if self._newest is None:
            raise RunError("this model is not listed, and what it is made of is known after its first forward only")
        return self._newest


def _parts(
    found: Mapping[str, Found], path: str, module: Found, place: Mapping[str, Any]
) -> tuple[list[Site], list[Cost]]:
    """The sites of one module, and what they cost."""
    is_attention = module.attends or ATTENTION.search(path.rpartition(".")[2]) is not None
    groups = [_group(found, tokens) for tokens, _ in module.outputs]
    traffic = {"weights": module.weights, "moved": module.rows * module.moved}
    if module.token_wise:
        kind = CROSS_ATTENTION if is_attention else MLP
        maps: dict[str, Any] = {
            "self_map": _map_beside(found, path, module),
            "cross_map": path if module.attends else None,
        }
        site = Site(path, kind, groups[0], **place, width=module.outputs[0][1], rows=True, **maps)
        return [site], [Cost(module.flops, token=module.flops // module.tokens, **traffic)]
    kind = SELF_ATTENTION if is_attention else MLP
    sites = [
        Site(name, kind, group, **place, width=width, rows=False)
        for name, group, (_, width) in zip(_sites_of(path, module), groups, module.outputs, strict=True)
    ]
    # the call is one: its price stands with its first output
    return sites, [Cost(module.flops, token=0, **traffic), *[Cost(full=0, token=0)] * (len(sites) - 1)]


def _sites_of(path: str, module: Found) -> tuple[str, ...]:
    return (path,) if len(module.outputs) == 1 else tuple(f"{path}[{n}]" for n in range(len(module.outputs)))


def _map_beside(found: Mapping[str, Found], path: str, module: Found) -> str | None:
    """The self-attention of the same block over the tokens of `module`, which can rank them."""
    block = path.rpartition(".")[0]
    for other, beside in found.items():
        own = beside.keys == beside.tokens == module.tokens
        if other.rpartition(".")[0] == block and own and not beside.token_wise and len(beside.outputs) == 1:
            return other
    return None


def _groups(found: Mapping[str, Found]) -> dict[str, int]:
    """Tokens by group; what most sites hold is called the image."""
    lengths = Counter(tokens for module in found.values() for tokens, _ in module.outputs)
    first, *others = (tokens for tokens, _ in lengths.most_common())
    return {IMAGE: first} | {f"stream {n}": tokens for n, tokens in enumerate(others, 2)}


def _group(found: Mapping[str, Found], tokens: int) -> str:
    return next((name for name, length in _groups(found).items() if length == tokens), IMAGE)


def _streams(block: Any) -> tuple[str, ...]:
    """The stream of a block, by the name of its first argument."""
    return tuple(list(inspect.signature(plain_class(block).forward).parameters)[1:2])
