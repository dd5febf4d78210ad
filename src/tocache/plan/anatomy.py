"""What one model is made of, as the plan sees it: the places where a feature is cached, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from tocache.errors import OptionError

SELF_ATTENTION = "self-attention"
TEMPORAL_ATTENTION = "temporal-attention"  # of a token to those of its own place in all frames
CROSS_ATTENTION = "cross-attention"
MLP = "mlp"
PARALLEL = "parallel"
REGION = "region"
KINDS = (SELF_ATTENTION, TEMPORAL_ATTENTION, CROSS_ATTENTION, MLP, PARALLEL, REGION)

JOINT = "joint"  # the group of a stream in which the text stands before the image
IMAGE_FIRST = "image, text"  # and of one in which it stands behind

TURNS = "+"  # between the names of stacks whose blocks take turns

# The order of the two halves of a batch that classifier-free guidance doubled.
COND_UNCOND = "cond,uncond"
UNCOND_COND = "uncond,cond"


@dataclass(frozen=True)
class Site:
    """One place where a feature is cached: a module's output for one of its token groups, or a region's residual.

    `parallel` is the output of a fused block, in which attention and MLP share one output projection; its `inside`
    names the block's attention, and that attention's feature is read for the fresh tokens alone.
    """

    name: str  # the module's path in the transformer, with "[group]" where it serves several groups
    kind: str  # one of KINDS
    group: str  # token group: "image", "text", JOINT, IMAGE_FIRST
    stack: str  # the list of blocks that holds it; of a region, the name of its span
    block: int  # index within that stack
    depth: int  # how many blocks that stack has
    width: int  # channels of the cached feature
    rows: bool  # whether some of its tokens can be computed without the others
    self_map: str | None = None  # the self-attention site whose map can rank this site's tokens
    cross_map: str | None = None  # the cross-attention site whose map can
    inside: tuple[str, ...] = ()  # the sites that do not run while this one is served
    span: int = 1  # of a region: how many blocks it covers, of each of its stacks
    pairs: int = 0  # channels of the keys and values that computing single tokens of an attention needs
    counted: str | None = None  # the group whose tokens budgets count here, where this one's may be padding


@dataclass(frozen=True)
class Cost:
    """What one site asks of the hardware in one pass, all rows of the batch together.

    The first four are FLOPs (2 × multiply-accumulate), the others numbers that go between memory and processor, of the
    site's own modules; `plan/traffic.py` makes bytes of them.
    """

    full: int  # everything computed
    token: int  # one more fresh token in every row
    always: int = 0  # spent in every pass, computed or not
    scores: int = 0  # an exact second look at the attention map, where the method needs one
    weights: int = 0  # parameters, read wherever anything is computed
    moved: int = 0  # read and written for one more computed token in every row
    shared: int = 0  # read and written once wherever anything is computed, however many tokens


@dataclass(frozen=True)
class Pass:
    """One transformer forward within a step: what its batch means, and how many tokens it carries."""

    rows: int  # batch, both guidance halves included
    tokens: Mapping[str, int]  # tokens per row, by group
    grid: tuple[int, ...] | None = None  # (height, width) or (frames, height, width) of the image tokens
    halves: str | None = None  # COND_UNCOND, UNCOND_COND, or None where rows are independent
    name: str = "batch"
    itemsize: int = 4  # bytes of one feature element
    context: int = 0  # tokens that cross-attention reads, padding included


@dataclass(frozen=True)
class Anatomy:
    """One model at one shape: its sites in the order in which they run, and the cost of each."""

    family: str
    model: str  # class and size, e.g. "DiTTransformer2DModel 28 x 1152"
    shape: Pass
    sites: tuple[Site, ...]
    costs: tuple[Cost, ...]
    notes: tuple[str, ...] = ()  # what the FLOP convention leaves out or counts differently
    outside: int = field(default=0, compare=False)  # parameters of no site, read in every pass; 0 where not looked at
    ahead: int = field(default=0, compare=False)  # of these, what can be read once for all steps of a run
    # stacks whose blocks hand on streams that are not known well enough to stand for a block
    apart: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    # by stack, of its blocks those that read what an earlier one gave, beside the stream: (the earlier, the reader)
    skips: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict, repr=False, compare=False)
    # the times of the run's steps, falling, as the scheduler gives them; empty before a run and where they do not fall
    times: tuple[float, ...] = field(default=(), repr=False, compare=False)
    index: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", {site.name: i for i, site in enumerate(self.sites)})

    def tokens(self, site: Site) -> int:
        """Tokens per row at `site`."""
        return self.shape.tokens[site.group]

    @cached_property
    def spans(self) -> Mapping[str, int]:
        """What regions are made of, with its number of blocks: a stack, or all those whose blocks take turns.

        What the blocks of one stack add to the stream is no feature where others add to it in between.
        """
        spans: list[list[str]] = []
        depths = {site.stack: site.depth for site in self._blocks}
        end = -1
        for stack in depths:
            at = [i for i, site in enumerate(self._blocks) if site.stack == stack]
            if at[0] < end:
                spans[-1].append(stack)
            else:
                spans.append([stack])
            end = max(end, at[-1])
        return {TURNS.join(span): max(depths[stack] for stack in span) for span in spans}

    @property
    def _blocks(self) -> list[Site]:
        """The sites within blocks, in running order."""
        return [site for site in self.sites if site.kind != REGION]

    def with_region(self, span: str, first: int, last: int) -> Anatomy:
        """The same model with the residual of blocks `first` … `last` of `span` as one more site, before its blocks.

        Raises OptionError where the span does not exist, has no such blocks, or is `unfit`.
        """
        name = f"region {span}[{first}:{last + 1}]"
        inside = [s for s in self._blocks if s.stack in span.split(TURNS) and first <= s.block <= last]
        if not inside or not 0 <= first <= last < self.spans.get(span, 0):
            spans = ", ".join(sorted(f"{name} (blocks 0 … {depth - 1})" for name, depth in self.spans.items()))
            raise OptionError(f"{name} does not exist; stacks: {spans}")
        if unfit := self.unfit(span):
            raise OptionError(f"{name} is not allowed: {unfit}; allowed for {self.model}: methods without regions")
        groups = {s.group for s in self._blocks if s.stack in span.split(TURNS)}
        region = Site(
            name=f"{span}[{first}:{last + 1}]",
            kind=REGION,
            group=inside[0].group if len(groups) == 1 else JOINT,
            stack=span,
            block=first,
            depth=inside[0].depth,
            width=inside[0].width,
            rows=False,
            inside=tuple(s.name for s in inside),
            span=last - first + 1,
        )
        at = self.sites.index(inside[0])
        sites = (*self.sites[:at], region, *self.sites[at:])
        return replace(self, sites=sites, costs=(*self.costs[:at], Cost(0, 0), *self.costs[at:]))

    def other_than(self, family: str, model: str) -> str:
        """In words, how a plan made for this is not for that model; "" where it is."""
        if (self.family, self.model) == (family, model):
            return ""
        return f"model: plan {self.model} ({self.family}), here {model} ({family})"

    def unfit(self, span: str) -> str:
        """Why the residual of blocks of `span` cannot be one feature; "" where it can."""
        stacks = span.split(TURNS)
        inside = [site for site in self._blocks if site.stack in stacks]
        widths = sorted({site.width for site in inside})
        if len(widths) > 1:
            return f"its streams are {' and '.join(map(str, widths))} channels wide, a feature has one width"
        if self.apart.intersection(stacks):
            return "its blocks hand on several streams, in an order that is not known, or take turns with others"
        built = [{(site.depth, site.group) for site in inside if site.stack == stack} for stack in stacks]
        if any(one != built[0] for one in built):
            return "blocks that take turns differ in number, or in how they arrange the tokens"
        return ""

    def counted(self, site: Site) -> int:
        """The tokens per row of which `site` computes a share: all, or those that are no padding in any row."""
        return self.tokens(site) if site.counted is None else self.shape.tokens[site.counted]

    def before_image(self, site: Site) -> int | None:
        """How many tokens of `site` stand before those of the image; None where it holds none of the image's."""
        if site.group in ("image", IMAGE_FIRST):
            return 0
        return self.tokens(site) - self.shape.tokens["image"] if site.group == JOINT else None

    def pair_bytes(self, site: Site) -> int:
        """Bytes of the keys and values of `site`, an attention: rows × tokens × channels of both."""
        return self.shape.rows * self.tokens(site) * site.pairs * self.shape.itemsize

    def feature_bytes(self, site: Site) -> int:
        """Bytes of one cached feature of `site`: rows × tokens × width."""
        return self.shape.rows * self.tokens(site) * site.width * self.shape.itemsize
