"""Tiny seeded pipelines of model families, in diffusers' own classes: one file per family, each with its cases."""

from __future__ import annotations

from ...conftest import CASES, Case
from . import (
    allegro,
    aura_flow,
    chroma,
    cogvideox,
    cogview3,
    hunyuan_video,
    ltx,
    mochi,
    pixart_sigma,
    qwen_image,
    sd3,
    wan,
)

FAMILIES: tuple[Case, ...] = (
    *CASES,
    *wan.CASES,
    *ltx.CASES,
    *allegro.CASES,
    *cogvideox.CASES,
    *hunyuan_video.CASES,
    *sd3.CASES,
    *chroma.CASES,
    *qwen_image.CASES,
    *aura_flow.CASES,
    *pixart_sigma.CASES,
    # no family lists these: they are recognised
    *mochi.CASES,
    *cogview3.CASES,
)
