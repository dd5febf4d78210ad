"""Tiny seeded pipelines of model families, in diffusers' own classes: one file per family, each with its cases."""

from __future__ import annotations

from ...conftest import CASES, Case
from . import (
    allegro,
    aura_flow,
    bria,
    chroma,
    cogvideox,
    cogview3,
    cogview4,
    flux2,
    hunyuan_dit,
    hunyuan_video,
    kandinsky5,
    latte,
    ltx,
    lumina2,
    mochi,
    ovis_image,
    pixart_sigma,
    qwen_image,
    sana,
    sd3,
    skyreels_v2,
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
    *mochi.CASES,
    *skyreels_v2.CASES,
    *bria.CASES,
    *latte.CASES,
    *sana.CASES,
    *kandinsky5.CASES,
    # no family lists it: it is recognised
    *ovis_image.CASES,
)
