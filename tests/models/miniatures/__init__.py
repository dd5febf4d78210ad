"""Tiny seeded pipelines of model families, in diffusers' own classes: one file per family, each with its cases."""

from __future__ import annotations

from ...conftest import CASES, Case
from . import sd3, wan

FAMILIES: tuple[Case, ...] = (*CASES, *wan.CASES, *sd3.CASES)
