"""IP-Adapters: what attentions return besides."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tocache
from tocache.plan.anatomy import CROSS_ATTENTION

from .pipelines import PARTIAL, check_workflow, draw_flux, flux_pipe, seeded

CLIP, WIDTH = 12, 32


def adapter(seed: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    """An IP-Adapter's checkpoint for `flux_pipe`: four tokens for a picture."""
    generator = torch.Generator().manual_seed(seed)
    text = flux_pipe().transformer.config.joint_attention_dim

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    image = {"proj.weight": random(4 * text, CLIP), "proj.bias": random(4 * text)}
    image |= {"norm.weight": torch.ones(text), "norm.bias": torch.zeros(text)}
    layers = {f"{b}.to_{part}_ip.weight": random(WIDTH, text) for b in range(2) for part in "kv"}
    return {"image_proj": image, "ip_adapter": layers | {f"{k[:-6]}bias": random(WIDTH) for k in layers}}


def draw_like(pipe: Any, seed: int = 1, **options: Any) -> torch.Tensor:
    embeds = [torch.randn(1, 1, CLIP, generator=seeded(seed)[0])]
    pictures = {"ip_adapter_image_embeds": embeds, "negative_ip_adapter_image_embeds": [torch.zeros(1, 1, CLIP)]}
    return draw_flux(pipe, **pictures, **options)


class TestIPAdapter:
    @pytest.mark.parametrize(("options", "passes"), [({}, 1), ({"true_cfg_scale": 2.0, "negative_prompt": "sea"}, 2)])
    def test_flux(self, options: dict[str, Any], passes: int) -> None:
        pipe = flux_pipe()
        pipe.transformer._load_ip_adapter_weights([adapter()])
        counted = check_workflow(pipe, lambda p: draw_like(p, **options), passes=passes)
        assert [site.kind for site in counted.plan.sites].count(CROSS_ATTENTION) == 2
        report = tocache.report(pipe)
        assert report.flops_computed == report.flops_planned < report.flops_uncached

    def test_its_picture_still_counts(self) -> None:
        pipe = flux_pipe()
        pipe.transformer._load_ip_adapter_weights([adapter()])
        tocache.enable(pipe, tocache.FORA(3))
        assert not torch.allclose(draw_like(pipe, 1), draw_like(pipe, 2), atol=1e-3)

    def test_two_of_them(self) -> None:
        pipe = flux_pipe()
        pipe.transformer._load_ip_adapter_weights([adapter(0), adapter(1)])
        embeds = [torch.randn(1, 1, CLIP, generator=seeded(n)[0]) for n in range(2)]
        pictures = {"ip_adapter_image_embeds": embeds}
        pictures |= {"negative_ip_adapter_image_embeds": [torch.zeros(1, 1, CLIP)] * 2}
        check_workflow(pipe, lambda p: draw_flux(p, **pictures))

    def test_loaded_and_unloaded_while_enabled(self) -> None:
        pipe = flux_pipe()
        tocache.enable(pipe, PARTIAL)
        without = draw_flux(pipe)
        pipe.transformer._load_ip_adapter_weights([adapter()])
        cached = draw_like(pipe)
        assert tocache.report(pipe).overruled == 0
        assert tocache.report(pipe).cache_bytes_peak == tocache.report(pipe).cache_bytes_planned
        reference = flux_pipe()
        reference.transformer._load_ip_adapter_weights([adapter()])
        tocache.enable(reference, PARTIAL)
        assert torch.equal(draw_like(reference), cached)
        pipe.unload_ip_adapter()
        assert torch.equal(draw_flux(pipe), without)
