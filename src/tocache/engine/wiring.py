"""Where a model family's sites are among its modules, and the rest of what the engine asks of a family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch

from tocache.plan.anatomy import Anatomy, Pass


@dataclass(frozen=True)
class TokenWise:
    """A module that treats every token by itself: an MLP, or cross-attention to the text.

    `norm` is the module whose first argument is the token stream and whose output nobody but `module` reads (through
    an element-wise modulation at most): tokens are then chosen there, and norm and modulation run on those alone.
    None where the modulation is per token or no norm of its own stands before the module.
    """

    site: str
    module: str
    norm: str | None = None


@dataclass(frozen=True)
class Shared:
    """An MLP that serves several streams of a block, called once for each in the order of `sites`.

    `norms` are as in `TokenWise`, one for each site, or for the first of them.
    """

    sites: tuple[str, ...]
    module: str
    norms: tuple[str, ...]


@dataclass(frozen=True)
class Attention:
    """A self-attention, with one site per token group of its output.

    `groups` are the groups of its key sequence in order; the output is one tensor where there is one site, and
    otherwise a tuple in the order of `sites`. `norms` are the modules that feed it and
    nobody else, through a modulation that is the same for all tokens of a row; none where it is not.

    `by_token` says that the module may be called with some of the tokens: it has one site, its tokens have no position
    there, and all of them attend to all. `unread` counts the outputs after those of the sites that nobody reads: they
    are not cached. `outputs` are the groups of its outputs, where one site holds them one behind the other. What is
    `folded` takes and gives one picture for each row, (rows, channels, height, width), and may as well be no attention.

    `left_out` is an argument of the transformer that lists blocks, and the number of this one: where it is among them,
    the module gives of each token its own value, as if it attended to itself alone.
    """

    sites: tuple[str, ...]
    module: str
    norms: tuple[str, ...]
    groups: tuple[str, ...]
    by_token: bool = False
    unread: int = 0
    outputs: tuple[str, ...] = ()
    folded: bool = False
    left_out: tuple[str, int] | None = None


@dataclass(frozen=True)
class Fused:
    """A single-stream block in which attention and MLP run side by side into one output projection.

    The block calls `norm`, `mlp_in`, `attention` and `mlp_out`, each on all tokens of the stream of `group`; only the
    attention may return them in parts, the groups `outputs`.
    """

    attention_site: str
    site: str
    norm: str
    mlp_in: str
    attention: str
    mlp_out: str
    group: str = "joint"
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Merged:
    """A single-stream block whose attention holds the MLP as well: one projection for both, and one output projection.

    `attention_site` is the result of the attention before that projection, `site` what `module` returns. `positions` is
    the argument by which `module` gets those of its tokens, and works without.
    """

    attention_site: str
    site: str
    norm: str
    module: str
    group: str = "joint"
    positions: str = "image_rotary_emb"


Layer = TokenWise | Shared | Attention | Fused | Merged


@dataclass(frozen=True)
class Stack:
    """A list of blocks: the streams each takes by these names and returns in this order (one tensor if only one)."""

    path: str
    streams: tuple[str, ...]


@dataclass(frozen=True)
class Guidance:
    """How a pipeline's call uses the transformer: what the batch of each pass of a step means.

    `passes` names each pass and says which half of its batch is which (None: rows are independent samples).
    """

    passes: tuple[tuple[str, str | None], ...] = (("batch", None),)


@dataclass(frozen=True)
class Conditioned:
    """What of a forward depends on its time and its conditions alone, whatever its tokens are.

    `time` names the forward's argument with the time of each row, (rows,), which is the scheduler's divided by `per`;
    `given` names its conditions, (rows, …) each or None. `projections` are by path: modules that embed both, and those
    whose input is silu of what such a module gives. `embed(module, arguments, dtype)` calls one of the first as the
    model would, (n, width) from n rows of the arguments, `dtype` being the model's.
    """

    time: str
    given: tuple[str, ...]
    projections: Mapping[str, tuple[str, ...]]
    embed: Callable[[Any, Mapping[str, Any], torch.dtype], torch.Tensor]
    per: int = 1

    @property
    def paths(self) -> tuple[str, ...]:
        """Of all these modules."""
        return tuple(path for embedding, others in self.projections.items() for path in (embedding, *others))


class Family(Protocol):
    """What the engine asks of a model family."""

    name: ClassVar[str]

    def model_name(self, transformer: Any) -> str:
        """Class and size."""
        ...

    def layers(self, transformer: Any) -> Sequence[Layer]:
        """Where the sites are, in running order."""
        ...

    def stacks(self, transformer: Any) -> Sequence[Stack]:
        """The lists of blocks."""
        ...

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        """Rows and tokens of a forward with these arguments; reads shapes only, never values."""
        ...

    def grid(self, transformer: Any, arguments: Mapping[str, Any]) -> tuple[int, ...] | None:
        """The grid of the image tokens; may read values, so it is asked once for a plan."""
        ...

    def alike(self, transformer: Any, arguments: Mapping[str, Any]) -> bool:
        """Whether a forward with these arguments modulates all tokens of a row alike; reads shapes only."""
        ...

    def present(self, transformer: Any, arguments: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
        """Which tokens are no padding, by group; asked where tokens are chosen."""
        ...

    def anatomy(self, transformer: Any, shape: Pass) -> Anatomy:
        """The sites and what they cost at this shape."""
        ...

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        """What the batches of a pipeline's call will mean."""
        ...
