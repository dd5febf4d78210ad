"""FLOPs of the published tables, from models on the meta device (method.md §1 and §7)."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest

from tocache.methods import FORA, PAB, ToCa, Uncached
from tocache.models.architectures import build_meta
from tocache.models.registry import FAMILIES
from tocache.plan import Anatomy, flops_planned, flops_uncached, lifetimes

T = 10**12


@functools.cache
def anatomy(architecture: str, **shape) -> Anatomy:
    """One picture, guided where the model is."""
    family = FAMILIES[architecture.split("-", maxsplit=1)[0]]
    transformer = build_meta(architecture)
    default = family.default_pass(transformer, pictures=1, guided=True, itemsize=2)
    return family.anatomy(transformer, replace(default, **shape))


@pytest.mark.parametrize(
    ("method", "steps", "expected"),
    [
        (Uncached(), 50, 23.735),
        (ToCa(3, 0.07), 50, 10.233),
        (FORA(3), 50, 8.560),
        (ToCa(3, 0), 50, 8.560),
        (ToCa(4, 0.07), 250, 43.421),
        (ToCa(4, 0.07, recipe="dit-ddpm250"), 250, 43.421),
        (Uncached(), 250, 118.676),
    ],
    ids=str,
)
def test_dit_xl_2_256(method, steps, expected):
    plan = method.plan([anatomy("dit-xl-2-256")], steps)
    assert flops_planned(plan) / T == pytest.approx(expected, abs=6e-4)  # three decimals are published
    assert flops_uncached(plan) / T == pytest.approx({50: 23.735, 250: 118.676}[steps], abs=6e-4)


def test_dit_by_the_formula_of_the_published_code():
    """method.md §1, per layer and step."""
    b, n, c, h = 2, 256, 1152, 16
    always = 2 * b * n * c + b * c + 6 * b * c**2
    mlp = 16 * b * n * c**2 + 24 * b * n * c
    attention = 6 * b * n * c**2 + b * n * c + 4 * b * n**2 * c + 5 * b * h * n**2 + 2 * b * n * c**2
    plan = Uncached().plan([anatomy("dit-xl-2-256")], 50)
    assert flops_planned(plan) == 50 * 28 * (always + mlp + attention)


@pytest.mark.parametrize(
    ("ratio", "expected"), [(None, 11.15), (0.4, 6.24), (0.3, 5.68), (0.2, 4.95), (0.1, 4.15)], ids=str
)
def test_pixart_xl_2_256(ratio, expected):
    method = Uncached() if ratio is None else ToCa(3, ratio)
    plan = method.plan([anatomy("pixart-xl-2-256")], 20)
    assert flops_planned(plan) / T == pytest.approx(expected, abs=0.0051 + 0.001 * expected)


def flux_by_formula(full_steps: int, ratio: float = 0.1) -> float:
    """method.md §7: 50 steps of which the others project the cached heads of the double blocks once more."""
    c, image, text = 3072, 4096, 512
    joint = image + text
    partial = 19 * joint * 2 * c**2
    for block in range(19):
        share = ratio * (1.5 - block / 27) * 0.4
        partial += 16 * c**2 * (int(share * image) + int(share * text))
    for block in range(38):
        partial += 18 * c**2 * int(ratio * (1.5 - block / 27) * 1.6 * joint)
    return (full_steps * 57 * joint * (24 * c**2 + 4 * joint * c) + (50 - full_steps) * partial) / T


@pytest.mark.parametrize(
    ("interval", "full_steps", "readme"), [(1, 50, 3718), (4, 14, 1263), (5, 12, 1127), (6, 10, 990)], ids=str
)
def test_flux_dev_1024(interval, full_steps, readme):
    """Caching after the output projection saves that projection's 2C² per token, double block and partial step."""
    plan = ToCa(interval, 0.1).plan([anatomy("flux-dev-1024")], 50)
    assert flux_by_formula(full_steps) == pytest.approx(readme, rel=1.5e-3)  # of the published code's README
    saved = (50 - full_steps) * 19 * 4608 * 2 * 3072**2 / T
    assert flops_planned(plan) / T == pytest.approx(flux_by_formula(full_steps) - saved, rel=1e-6)
    if interval == 4:
        assert flops_planned(plan) / T == pytest.approx(1262 - 59, rel=1e-3)


def test_flux_uncached_by_formula():
    c, tokens = 3072, 4608
    plan = Uncached().plan([anatomy("flux-dev-1024")], 50)
    assert flops_uncached(plan) == 50 * 57 * tokens * (24 * c**2 + 4 * tokens * c)


def test_rows_multiply_the_cost():
    one = FORA(3).plan([anatomy("dit-xl-2-256")], 50)
    four = FORA(3).plan([anatomy("dit-xl-2-256", rows=8)], 50)
    assert flops_planned(four) == 4 * flops_planned(one)


@pytest.mark.parametrize(
    ("method", "published", "planned"),
    [
        (Uncached(), 3283.20, 3274.10),
        (ToCa(3, 0.1), 1394.03, 1391.35),
        (ToCa(3, 0.134), 1439.70, 1443.23),
        (FORA(2), 1751.32, 1746.19),
        (PAB(2, 4, 6), 2657.70, 2660.18),
        (PAB(3, 5, 7), 2615.15, 2559.83),
        (PAB(5, 7, 9), 2558.25, 2483.36),
    ],
    ids=str,
)
def test_opensora_480p_2s(method, published, planned):
    plan = method.plan([anatomy("opensora-1.2-480p-2s")], 30)
    assert flops_planned(plan) / T == pytest.approx(published, rel=0.05)
    assert flops_planned(plan) / T == pytest.approx(planned, abs=0.005)


def test_opensora_by_the_formula():
    """method.md §7: per token and pair of blocks 2 · (8 + 4 + 16) C² and 4 · (1590 + 15) C."""
    tokens, c = 15 * 1590, 1152
    pair = tokens * (2 * (8 + 4 + 16) * c**2 + 4 * (1590 + 15) * c)
    assert flops_uncached(Uncached().plan([anatomy("opensora-1.2-480p-2s")], 30)) == 30 * 2 * 28 * pair


def test_the_bytes_of_opensora_480p_2s():
    plan = ToCa(3, 0.1).plan([anatomy("opensora-1.2-480p-2s")], 30)
    features = 3 * 56 * 2 * 23850 * 1152 * 2  # kinds, blocks, rows, tokens, width, bf16
    assert features < lifetimes(plan).peak_bytes < 1.01 * features
