"""What every model family has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch

from tocache.engine.intercept import plain_class
from tocache.engine.wiring import Conditioned, Guidance, Layer, Stack
from tocache.plan.anatomy import Anatomy, Pass
from tocache.plan.budget import Budget
from tocache.plan.policy import Policy
from tocache.plan.recipe import Recipe
from tocache.plan.schedule import Every


class ModelFamily(ABC):
    """One family of diffusion transformers: where its sub-layers are, what they cost, what was published for it.

    `classes` are the transformer classes it serves, by name; `recipes` what `ToCa(recipe=…)` may name.
    """

    name: ClassVar[str]
    classes: ClassVar[tuple[str, ...]]
    recipes: ClassVar[tuple[Recipe, ...]]
    default_steps: ClassVar[int]
    default_guidance: ClassVar[float]

    def recipe(self, steps: int) -> Recipe:
        """The recipe that ToCa means at this number of steps when it names none; the first of all here."""
        return self.recipes[0]

    @abstractmethod
    def layers(self, transformer: Any) -> Sequence[Layer]:
        """Where the sites are, in running order."""

    @abstractmethod
    def stacks(self, transformer: Any) -> Sequence[Stack]:
        """The lists of blocks."""

    @abstractmethod
    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        """Rows and tokens of a forward with these arguments, from shapes alone."""

    @abstractmethod
    def default_pass(self, transformer: Any, *, pictures: int, guided: bool, itemsize: int) -> Pass:
        """The first pass of a step at the model's usual size, for a plan before any run."""

    def default_passes(self, transformer: Any, *, pictures: int, guided: bool, itemsize: int) -> tuple[Pass, ...]:
        """All passes of a step at the model's usual size, as its pipeline is usually called, for a plan before any run.

        The halves of a guidance in two passes are taken to have texts of one length.
        """
        first = self.default_pass(transformer, pictures=pictures, guided=guided, itemsize=itemsize)
        if not guided or not self.guides_in_two_passes(transformer):
            return (first,)
        return replace(first, name="cond"), replace(first, name="uncond")

    def guides_in_two_passes(self, transformer: Any) -> bool:
        """Whether guidance, as usually asked for, makes a pass for each half; False where both are in one batch.

        Also where the transformer embeds the scale, and a true CFG beside that is asked for by a negative prompt alone.
        """
        return False

    @abstractmethod
    def anatomy(self, transformer: Any, shape: Pass) -> Anatomy:
        """The sites and what they cost at this shape; reads the modules' sizes only, so a meta model will do."""

    def known(self, transformer: Any) -> bool:
        """Whether the sites can be told before the first forward; a model that no family lists must run once."""
        return True

    def grid(self, transformer: Any, arguments: Mapping[str, Any]) -> tuple[int, ...] | None:
        """The grid of the image tokens; families whose shapes do not tell it read it off the arguments."""
        return self.measure(transformer, arguments).grid

    def alike(self, transformer: Any, arguments: Mapping[str, Any]) -> bool:
        """Whether a forward with these arguments modulates all tokens of a row alike; from shapes alone."""
        return True

    def present(self, transformer: Any, arguments: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
        """(rows, tokens) bool by group: which tokens are no padding; without the groups that have none."""
        return {}

    def conditioned(self, transformer: Any) -> Conditioned | None:
        """What `modulate_ahead` may compute for all steps at once; None where no block has a projection of its own.

        PixArt, Open-Sora and others share one among all blocks: that costs no more than one of DiT's 28.
        """
        return None

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        """What the batches of a pipeline's call mean; rows are independent where nothing else is known."""
        return Guidance()

    def timesteps(self, shape: Pass, steps: int) -> tuple[float, ...]:
        """The times of a run's steps, from 1000 down, as far as they can be known before it; evenly spaced here."""
        return tuple(1000 * (1 - step / steps) for step in range(steps))

    def model_name(self, transformer: Any) -> str:
        """Class and size, e.g. "DiTTransformer2DModel 28 x 1152"."""
        depth = "+".join(str(len(transformer.get_submodule(s.path))) for s in self.stacks(transformer))
        return f"{plain_class(transformer).__name__} {depth} x {width_of(transformer)}"


def in_one_batch(arguments: Mapping[str, Any], halves: str) -> Guidance:
    """What `guidance_scale` means where both halves run in one batch, in the order `halves`."""
    return Guidance((("batch", halves),)) if _guides(arguments, "guidance_scale") else Guidance()


def in_two_passes(arguments: Mapping[str, Any], scale: str = "guidance_scale") -> Guidance:
    """What the argument `scale` means where each half has a pass; a true CFG also needs a negative prompt."""
    negative = ("negative_prompt", "negative_prompt_embeds")
    asked = scale == "guidance_scale" or any(arguments.get(name) is not None for name in negative)
    both = (("cond", None), ("uncond", None))
    return Guidance(both if asked and _guides(arguments, scale) else both[:1])


def by_guider(pipeline: Any) -> Guidance:
    """A pass for each condition that the pipeline's guider combines; one where it has no guider."""
    guider = getattr(pipeline, "guider", None)
    conditions = 1 if guider is None else int(guider.num_conditions)
    names = ("cond", "uncond", *(f"pass {number}" for number in range(2, conditions)))
    return Guidance(tuple((name, None) for name in names[:conditions]))


def _guides(arguments: Mapping[str, Any], name: str) -> bool:
    scale = arguments.get(name)
    return scale is not None and scale > 1


def unpublished(name: str, *kinds: str, score: str = "influence") -> Recipe:
    """What ToCa means for a family that nothing was published for: fresh tokens at sites of these kinds."""
    return Recipe(
        name=name,
        schedule=Every(3, warmup=3),
        budget=Budget(0.1, dict.fromkeys(kinds, 1.0)),
        policy=Policy(scores={score: 1.0}, staleness=0.25),
        source="no constants were published for this family: three full steps, then one in three, and a tenth of the "
        "tokens in between",
    )


def patched(transformer: Any, latents: Any) -> tuple[int, tuple[int, int]]:
    """Rows, and the grid of tokens that the patches of `latents` (rows, channels, height, width) make."""
    rows, _, height, width = latents.shape
    patch = transformer.config.patch_size
    return rows, (height // patch, width // patch)


def present_tokens(lengths: Sequence[int], tokens: int, device: torch.device) -> torch.Tensor:
    """(rows, tokens) bool: the first tokens of each row, as many as its length."""
    return torch.arange(tokens, device=device) < torch.tensor(lengths, device=device)[:, None]


def width_of(transformer: Any) -> int:
    """Channels of the token stream."""
    for name in ("hidden_size", "dim", "model_dim"):  # what some classes call it
        if (width := transformer.config.get(name)) is not None:
            return int(width)
    return int(transformer.config.num_attention_heads * transformer.config.attention_head_dim)


def itemsize_of(transformer: Any) -> int:
    """Bytes of one feature element: features have the dtype that the model computes in."""
    return int(transformer.dtype.itemsize)
