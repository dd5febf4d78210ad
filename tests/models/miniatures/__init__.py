"""Tiny seeded pipelines of model families, in diffusers' own classes: one file per family, each with its cases."""

from __future__ import annotations

from ...conftest import CASES, Case
from . import (
    allegro,
    aura_flow,
    chroma,
    cogvideox,
    cogview3,
    cogview4,
    flux2,
    hunyuan_dit,
    hunyuan_video,
    ltx,
    lumina2,
    mochi,
    pixart_sigma,
    qwen_image,
    sd3,
    wan,
    z_image,
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
    *flux2.CASES,
    *z_image.CASES,
    *lumina2.CASES,
    *hunyuan_dit.CASES,
    *cogview3.CASES,
    *cogview4.CASES,
    # no family lists these: they are recognised
    *mochi.CASES,
)
