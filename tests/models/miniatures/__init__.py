"""Tiny seeded pipelines of model families, in diffusers' own classes: one file per family, each with its cases."""

from __future__ import annotations

from ...conftest import CASES, Case

FAMILIES: tuple[Case, ...] = (*CASES,)
