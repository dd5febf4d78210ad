"""ControlNet and IP-Adapter: what is added to the blocks, and what their attentions return besides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from diffusers import FluxControlNetModel, FluxControlNetPipeline

import tocache
from tocache.plan import ALL
from tocache.plan.anatomy import CROSS_ATTENTION

from .pipelines import PARTIAL, check_workflow, draw_flux, flux_pipe, quiet, seeded

CLIP, WIDTH = 12, 32


def controlled() -> Any:
    """FLUX with a ControlNet of one block of each kind, whose residuals are not zero."""
    pipe = flux_pipe(double_depth=3, single_depth=2)
    sizes = {"num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = FluxControlNetModel.from_transformer(pipe.transformer, **sizes, load_weights_from_transformer=False)
        for module in [net.controlnet_x_embedder, *net.controlnet_blocks, *net.controlnet_single_blocks]:
            torch.nn.init.normal_(module.weight, std=0.1)
    return quiet(FluxControlNetPipeline(**pipe.components, controlnet=net.eval()))


def draw_controlled(pipe: Any, **options: Any) -> torch.Tensor:
    control = torch.rand(1, 3, 64, 64, generator=seeded(5)[0])
    return draw_flux(pipe, control_image=control, controlnet_conditioning_scale=0.7, **options)


# diffusers' ControlNet takes its position embedding from where diffusers itself wants it no more
@pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning")
class TestControlNet:
    def test_flux(self) -> None:
        check_workflow(controlled(), draw_controlled)

    def test_a_part_of_the_steps(self) -> None:
        check_workflow(controlled(), lambda pipe: draw_controlled(pipe, control_guidance_end=0.5))

    def test_the_picture_that_controls_still_counts(self) -> None:
        pipe = controlled()
        tocache.enable(pipe, PARTIAL)
        assert not torch.allclose(
            draw_controlled(pipe), draw_flux(pipe, control_image=torch.zeros(1, 3, 64, 64)), atol=1e-3
        )

    def test_its_residuals_are_not_added_twice_where_blocks_are_skipped(self) -> None:
        """The same inputs in every step: what a region serves is then what it would have computed."""
        pipe = controlled()
        model = pipe.transformer

        @dataclass(frozen=True)
        class Spans(tocache.Method):
            name: ClassVar[str] = "spans"

            def plan(self, anatomies: Any, steps: int) -> tocache.Plan:
                regions = (("transformer_blocks", 0, 2), ("single_transformer_blocks", 0, 1))
                for region in regions:
                    anatomies = [anatomy.with_region(*region) for anatomy in anatomies]
                fresh = torch.full((steps, len(anatomies), len(anatomies[0].sites)), ALL).int().numpy()
                for stack, first, last in regions:
                    fresh[1:, :, anatomies[0].index[f"{stack}[{first}:{last + 1}]"]] = 0
                return tocache.Plan(tuple(anatomies), fresh, tocache.Policy(), "spans")

        inputs: list[dict[str, Any]] = []
        handle = model.register_forward_pre_hook(lambda _, args, kwargs: inputs.append(kwargs), with_kwargs=True)
        draw_controlled(pipe)
        handle.remove()
        assert any(float(sample.abs().max()) > 0.01 for sample in inputs[3]["controlnet_block_samples"])
        with torch.no_grad():
            plain = model(**inputs[3])[0]
            tocache.enable(model, Spans())
            with tocache.run(model, timesteps=9, cfg=None) as run:
                for _ in range(9):
                    torch.testing.assert_close(model(**inputs[3])[0], plain, rtol=1e-4, atol=1e-4)
                    run.step()
        assert tocache.report(model).steps_by_kind == {"full": 1, "reuse": 8}


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
