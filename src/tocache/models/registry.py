"""Finds the family of a transformer by the name of its class."""

from __future__ import annotations

import difflib
from typing import Any

import torch

from tocache.engine.intercept import plain_class
from tocache.errors import UnknownNameError, UnsupportedModelError
from tocache.models.allegro import Allegro
from tocache.models.aura_flow import AuraFlow
from tocache.models.base import ModelFamily
from tocache.models.bria import Bria
from tocache.models.bria_fibo import BriaFibo
from tocache.models.chroma import Chroma
from tocache.models.cogvideox import CogVideoX
from tocache.models.cogview import CogView3, CogView4
from tocache.models.cosmos import Cosmos
from tocache.models.dit import DiT
from tocache.models.easyanimate import EasyAnimate
from tocache.models.flux import Flux
from tocache.models.flux2 import Flux2
from tocache.models.hidream import HiDream
from tocache.models.hunyuan_dit import HunyuanDiT
from tocache.models.hunyuan_framepack import HunyuanFramepack
from tocache.models.hunyuan_image import HunyuanImage
from tocache.models.hunyuan_video import HunyuanVideo
from tocache.models.hunyuan_video15 import HunyuanVideo15
from tocache.models.kandinsky5 import Kandinsky5
from tocache.models.latte import Latte
from tocache.models.ltx import LTXVideo
from tocache.models.ltx2 import LTX2Video
from tocache.models.lumina2 import Lumina2
from tocache.models.mochi import Mochi
from tocache.models.omnigen import OmniGen
from tocache.models.opensora import OpenSora
from tocache.models.pixart import PixArt
from tocache.models.qwen_image import QwenImage
from tocache.models.recognised import Recognised, recognise
from tocache.models.sana import Sana
from tocache.models.sd3 import SD3
from tocache.models.stable_audio import StableAudio
from tocache.models.wan import Wan
from tocache.models.z_image import ZImage
from tocache.plan.recipe import Recipe

FAMILIES: dict[str, ModelFamily] = {
    family.name: family
    for family in (
        DiT(),
        PixArt(),
        Flux(),
        OpenSora(),
        Wan(),
        LTXVideo(),
        Allegro(),
        CogVideoX(),
        HunyuanVideo(),
        SD3(),
        Chroma(),
        QwenImage(),
        AuraFlow(),
        Flux2(),
        ZImage(),
        Lumina2(),
        HunyuanDiT(),
        CogView3(),
        CogView4(),
        Mochi(),
        Bria(),
        Latte(),
        Sana(),
        Kandinsky5(),
        HunyuanVideo15(),
        HunyuanFramepack(),
        HunyuanImage(),
        LTX2Video(),
        EasyAnimate(),
        HiDream(),
        StableAudio(),
        BriaFibo(),
        OmniGen(),
        Cosmos(),
    )
}


def family_of(transformer: Any) -> ModelFamily:
    """The family that serves `transformer`, listed or recognised.

    Raises UnsupportedModelError, which names the nearest ones.
    """
    if hasattr(transformer, "_orig_mod"):
        raise UnsupportedModelError(
            f"{type(transformer).__name__} is a wrapper of torch.compile, which hides the modules of the model; "
            "compile it in place instead: pipe.transformer.compile()"
        )
    names = [cls.__name__ for cls in plain_class(transformer).__mro__]
    for family in FAMILIES.values():
        if any(name in family.classes for name in names):
            return family
    if isinstance(transformer, torch.nn.Module) and (recognised := recognise(transformer)) is not None:
        return recognised
    known = [name for family in FAMILIES.values() for name in family.classes]
    near = difflib.get_close_matches(names[0], known, n=3, cutoff=0.3) or known
    raise UnsupportedModelError(
        f"no model family serves {names[0]}; the nearest supported classes are {', '.join(near)}. "
        "CONTRIBUTING.md has the recipe for a new family: one file that says where its sub-layers are"
    )


def family_named(name: str) -> ModelFamily:
    """The family of this name; that of a model which was recognised knows its recipe. Raises UnknownNameError."""
    if name == Recognised.name:
        return Recognised(())
    if name not in FAMILIES:
        raise UnknownNameError.of("model family", name, FAMILIES)
    return FAMILIES[name]


def recipe_named(name: str) -> Recipe:
    """The published recipe of this name. Raises UnknownNameError."""
    recipes = {recipe.name: recipe for family in (*FAMILIES.values(), Recognised(())) for recipe in family.recipes}
    if name not in recipes:
        raise UnknownNameError.of("recipe", name, recipes)
    return recipes[name]
