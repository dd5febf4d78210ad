"""What each model family supports: classes, kinds of site, scores, recipes, presets."""

from __future__ import annotations

from dataclasses import dataclass

from tocache.methods import METHODS
from tocache.models.architectures import ARCHITECTURES, build_meta, is_here
from tocache.models.base import ModelFamily
from tocache.models.registry import FAMILIES
from tocache.plan import Anatomy
from tocache.presets import presets_of


@dataclass(frozen=True)
class FamilySupport:
    """What one model family supports."""

    family: str
    classes: tuple[str, ...]  # diffusers' transformer classes
    architectures: tuple[str, ...]  # known to `plan_model` by name
    partial: tuple[str, ...]  # kinds of site of which single tokens can be computed
    whole: tuple[str, ...]  # kinds of site that are computed whole or not at all
    scores: tuple[str, ...]  # base scores read off its attention maps
    recipes: dict[str, str]  # name → where its constants come from
    presets: dict[str, str]
    methods: tuple[str, ...]
    default_steps: int
    default_guidance: float


def list_models() -> list[FamilySupport]:
    """The model families of which the installed diffusers has a class, and what each supports."""
    return [_support(family) for family in FAMILIES.values() if any(map(is_here, family.classes))]


def _support(family: ModelFamily) -> FamilySupport:
    own = {name: a.transformer for name, a in ARCHITECTURES.items() if a.family == family.name}
    names = tuple(name for name, transformer in own.items() if is_here(transformer))
    sites = _anatomy_of(family, names[0]).sites if names else ()
    scores = ("influence",) * any(s.self_map for s in sites) + ("entropy",) * any(s.cross_map for s in sites)
    partial = tuple(dict.fromkeys(s.kind for s in sites if s.rows))
    return FamilySupport(
        family=family.name,
        classes=family.classes,
        architectures=names,
        partial=partial,
        whole=tuple(dict.fromkeys(s.kind for s in sites if not s.rows)),
        scores=scores,
        recipes={recipe.name: recipe.source for recipe in family.recipes},
        presets={name: known.source for name, known in presets_of(family.name).items()},
        methods=tuple(METHODS),
        default_steps=family.default_steps,
        default_guidance=family.default_guidance,
    )


def _anatomy_of(family: ModelFamily, architecture: str) -> Anatomy:
    transformer = build_meta(architecture)
    shape = family.default_pass(transformer, pictures=1, guided=True, itemsize=2)
    return family.anatomy(transformer, shape)
