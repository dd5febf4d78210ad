"""The tables of the plans against those that the published code recorded (tests/golden/data)."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

from tocache.methods import FORA, Method, ToCa
from tocache.models.registry import FAMILIES
from tocache.plan import ALL, Pass, Plan, flops_by_site, flops_planned, flops_uncached

DATA = Path(__file__).parent / "golden" / "data"
CLASSES = {"dit": "DiTTransformer2DModel", "pixart": "PixArtTransformer2DModel", "flux": "FluxTransformer2DModel"}


def meta(family: str, **config: int):
    with torch.device("meta"):
        return getattr(diffusers, CLASSES[family])(**config)


def plan_of(family: str, method: Method, steps: int, shape: Pass, **config) -> Plan:
    return method.plan([FAMILIES[family].anatomy(meta(family, **config), shape)], steps)


def column(plan: Plan, suffix: str, stack: str = "transformer_blocks") -> np.ndarray:
    """(steps, blocks) amounts of one kind of site, by the end of its name."""
    ending = f".{suffix}" if suffix else ""
    at = [i for i, s in enumerate(plan.sites) if s.name == f"{stack}.{s.block}{ending}"]
    return plan.fresh[:, 0, at]


@pytest.fixture
def golden(request):
    return np.load(DATA / request.param)


def dit_plan(method: Method) -> Plan:
    config = {"num_layers": 28, "num_attention_heads": 4, "attention_head_dim": 12, "sample_size": 16}
    return plan_of("dit", method, 50, Pass(4, {"image": 64}, (8, 8), "cond,uncond"), **config)


DIT = [("dit_ddim50_toca_t64.npz", ToCa(3, 0.07)), ("dit_ddim50_fora_t64.npz", FORA(3))]


@pytest.mark.parametrize(("golden", "method"), DIT, indirect=["golden"], ids=["toca", "fora"])
class TestDiT:
    def test_full_steps_by_layer(self, golden, method):
        plan = dit_plan(method)
        assert golden["step_order"].tolist() == list(range(49, -1, -1))
        full = golden["layer_full"].astype(bool)
        assert full.any()
        assert not full.all()
        assert np.array_equal(column(plan, "attn1") == ALL, full)
        assert np.array_equal(column(plan, "ff") == ALL, full)
        assert set(np.unique(column(plan, "attn1"))) == {ALL, 0}

    def test_fresh_tokens_of_the_mlps(self, golden, method):
        assert np.array_equal(column(dit_plan(method), "ff"), golden["k_mlp"])

    def test_flops_of_every_step(self, golden, method):
        plan = dit_plan(method)
        by_step = flops_by_site(plan.anatomies, plan.amounts).sum(axis=(1, 2))
        assert np.cumsum(by_step).tolist() == golden["flops_cum"].tolist()
        assert flops_planned(plan) == int(golden["flops_total"])
        assert flops_uncached(plan) == int(golden["flops_total_uncached"])


@pytest.mark.parametrize("golden", ["pixart_dpms20_toca_t64.npz"], indirect=True)
def test_pixart(golden):
    config = {"num_layers": 28, "num_attention_heads": 4, "attention_head_dim": 12, "cross_attention_dim": 48}
    config |= {"caption_channels": 32, "sample_size": 16}
    shape = Pass(4, {"image": 64}, (8, 8), "uncond,cond", context=20)
    plan = plan_of("pixart", ToCa(3, 0.3), 20, shape, **config)
    full = golden["layer_full"].astype(bool)
    assert np.array_equal(column(plan, "attn1"), np.where(full, ALL, 0))
    assert np.array_equal(column(plan, "attn2"), golden["k_cross"])
    assert np.array_equal(column(plan, "ff"), golden["k_mlp"])
    assert (golden["k_mlp"] == 64).any()  # all tokens, and yet no full step


@pytest.mark.parametrize("golden", ["flux_50_toca4_01_i64_t16.npz"], indirect=True)
def test_flux(golden):
    config = {"in_channels": 16, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 16}
    config |= {"num_attention_heads": 4, "joint_attention_dim": 32, "pooled_projection_dim": 24}
    config |= {"guidance_embeds": True, "axes_dims_rope": (4, 6, 6)}
    shape = Pass(1, {"image": 64, "text": 16, "joint": 80}, (8, 8))
    plan = plan_of("flux", ToCa(4, 0.1), 50, shape, **config)
    assert np.array_equal(column(plan, "ff"), golden["k_double_img"])
    assert np.array_equal(column(plan, "ff_context"), golden["k_double_txt"])
    assert np.array_equal(column(plan, "", "single_transformer_blocks"), golden["k_single"])
    full = np.isin(np.arange(50), golden["full_steps"])
    for site in ("attn[image]", "attn[text]"):
        assert np.array_equal(column(plan, site), np.where(full[:, None], ALL, 0).repeat(19, 1))
    attention = column(plan, "attn", "single_transformer_blocks")
    assert np.array_equal(attention, np.where(full[:, None], ALL, 0).repeat(38, 1))


def test_the_methods_are_those_of_the_recorded_runs():
    runs = {name: json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))["runs"] for name in CLASSES}
    assert [(r["fresh_threshold"], r["fresh_ratio"]) for r in runs["dit"].values()] == [(3, 0.07), (3, 0.0)]
    assert [(r["fresh_threshold"], r["fresh_ratio"]) for r in runs["pixart"].values()] == [(3, 0.3)]
    cache = next(iter(runs["flux"].values()))["cache"]
    assert (cache["fresh_threshold"], cache["fresh_ratio"]) == (4, 0.1)
