"""ControlNets: what they add between the blocks reaches every step, however few of its tokens are computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from diffusers import (
    FluxControlNetModel,
    FluxControlNetPipeline,
    SD3ControlNetModel,
    StableDiffusion3ControlNetPipeline,
)

import tocache
from tocache.plan import ALL

from ..models.miniatures.sd3 import sd3
from .pipelines import PARTIAL, check_workflow, draw_flux, flux_pipe, quiet, seeded

Region = tuple[str, int, int]  # stack, first block, last block


@dataclass(frozen=True)
class Controlled:
    """A pipeline with a ControlNet: `draw` calls one that `make` has made, with the picture that controls.

    `residuals` is the argument by which the transformer gets what the ControlNet adds, `regions` spans that enclose
    places where it does.
    """

    make: Callable[[], Any]
    draw: Callable[..., torch.Tensor]
    residuals: str
    regions: tuple[Region, ...]


def awaken(*modules: torch.nn.Module) -> None:
    """Weights for modules that begin with zeros, as those do that hand on what a ControlNet has found."""
    for module in modules:
        torch.nn.init.normal_(module.get_parameter("weight"), std=0.1)


def controlled_flux() -> Any:
    """One block of each kind in the ControlNet."""
    pipe = flux_pipe(double_depth=3, single_depth=2)
    sizes = {"num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = FluxControlNetModel.from_transformer(pipe.transformer, **sizes, load_weights_from_transformer=False)
        awaken(net.controlnet_x_embedder, *net.controlnet_blocks, *net.controlnet_single_blocks)
    return quiet(FluxControlNetPipeline(**pipe.components, controlnet=net.eval()))


def controlled_sd3() -> Any:
    """Two blocks in the ControlNet, four in the transformer: each of the former is added after two of the latter."""
    pipe = sd3(num_layers=4)
    sizes = {name: value for name, value in pipe.transformer.config.items() if not name.startswith("_")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = SD3ControlNetModel.from_config(sizes | {"num_layers": 2})
        awaken(net.pos_embed_input.proj, *net.controlnet_blocks)
    return quiet(StableDiffusion3ControlNetPipeline(**pipe.components, controlnet=net.eval()))


def draw_controlled_flux(pipe: Any, shown: int = 5, **options: Any) -> torch.Tensor:
    control = torch.rand(1, 3, 64, 64, generator=seeded(shown)[0])
    return draw_flux(pipe, **{"control_image": control, "controlnet_conditioning_scale": 0.7} | options)


def draw_controlled_sd3(pipe: Any, shown: int = 5, **options: Any) -> torch.Tensor:
    control = torch.rand(1, 3, 128, 128, generator=seeded(shown)[0])
    arguments = {"num_inference_steps": 10, "output_type": "latent", "max_sequence_length": 16, "height": 128}
    arguments |= {
        "width": 128,
        "control_image": control,
        "controlnet_conditioning_scale": 0.7,
        "generator": seeded()[0],
    }
    return pipe("a red circle", **arguments | options).images


CASES = {
    "flux": Controlled(
        controlled_flux,
        draw_controlled_flux,
        "controlnet_block_samples",
        (("transformer_blocks", 0, 2), ("single_transformer_blocks", 0, 1)),
    ),
    "sd3": Controlled(
        controlled_sd3, draw_controlled_sd3, "block_controlnet_hidden_states", (("transformer_blocks", 0, 2),)
    ),
}

# diffusers' ControlNet takes its position embedding from where diffusers itself wants it no more
pytestmark = pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning")


@pytest.fixture(params=CASES)
def controlled(request: pytest.FixtureRequest) -> Controlled:
    return CASES[request.param]


@dataclass(frozen=True)
class Spans(tocache.Method):
    """The regions are computed once, and served from then on."""

    regions: tuple[Region, ...]
    name: ClassVar[str] = "spans"

    def plan(self, anatomies: Any, steps: int) -> tocache.Plan:
        for region in self.regions:
            anatomies = [anatomy.with_region(*region) for anatomy in anatomies]
        fresh = torch.full((steps, len(anatomies), len(anatomies[0].sites)), ALL).int().numpy()
        for stack, first, last in self.regions:
            fresh[1:, :, anatomies[0].index[f"{stack}[{first}:{last + 1}]"]] = 0
        return tocache.Plan(tuple(anatomies), fresh, tocache.Policy(), "spans")


def what_the_model_gets(pipe: Any, draw: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """The arguments of each of the transformer's forwards while `draw` draws."""
    inputs: list[dict[str, Any]] = []
    handle = pipe.transformer.register_forward_pre_hook(lambda _, args, kwargs: inputs.append(kwargs), with_kwargs=True)
    draw(pipe)
    handle.remove()
    return inputs


def test_the_picture_is_as_the_plan_says(controlled: Controlled) -> None:
    check_workflow(controlled.make(), controlled.draw)


def test_a_part_of_the_steps(controlled: Controlled) -> None:
    check_workflow(controlled.make(), lambda pipe: controlled.draw(pipe, control_guidance_end=0.5))


def test_several_pictures_without_guidance_and_with_it() -> None:
    """SD3's guidance doubles what the ControlNet sees as well."""
    pipe = controlled_sd3()
    check_workflow(pipe, lambda pipe: draw_controlled_sd3(pipe, guidance_scale=1.0, num_images_per_prompt=2))
    assert tocache.report(pipe).rows == 2
    tocache.disable(pipe)
    check_workflow(pipe, lambda pipe: draw_controlled_sd3(pipe, guidance_scale=5.0, num_images_per_prompt=2))
    assert tocache.report(pipe).rows == 4


@pytest.mark.parametrize("method", [PARTIAL, tocache.FORA(3)], ids=lambda method: method.name)
def test_what_is_added_in_a_step_reaches_it_whatever_is_served(controlled: Controlled, method: tocache.Method) -> None:
    """Of two forwards that differ by the residuals alone, and only in a step that serves sites, the answers differ."""
    pipe = controlled.make()
    inputs = what_the_model_gets(pipe, controlled.draw)[3]
    model, added = pipe.transformer, inputs[controlled.residuals]
    assert any(float(sample.abs().max()) > 0.01 for sample in added)
    tocache.enable(model, method)

    def answer(residuals: Any) -> torch.Tensor:
        with torch.no_grad(), tocache.run(model, timesteps=9, cfg=None) as run:
            for step in range(5):  # step 4 is none of the full ones
                given = residuals if step == 4 else added
                found: torch.Tensor = model(**inputs | {controlled.residuals: given})[0]
                run.step()
        assert set(tocache.report(model).steps_by_kind) == {"full", "partial" if method is PARTIAL else "reuse"}
        return found

    same, other = answer(added), answer([2 * sample for sample in added])
    assert torch.equal(answer(added), same)
    assert not torch.allclose(other, same, atol=1e-3)


def test_the_picture_that_controls_still_counts(controlled: Controlled) -> None:
    pipe = controlled.make()
    tocache.enable(pipe, PARTIAL)
    assert not torch.allclose(controlled.draw(pipe), controlled.draw(pipe, shown=6), atol=1e-3)


def test_its_residuals_are_not_added_twice_where_blocks_are_skipped(controlled: Controlled) -> None:
    """The same inputs in every step: what a region serves is then what it would have computed."""
    pipe = controlled.make()
    inputs = what_the_model_gets(pipe, controlled.draw)[3]
    model = pipe.transformer
    with torch.no_grad():
        plain = model(**inputs)[0]
        tocache.enable(model, Spans(controlled.regions))
        with tocache.run(model, timesteps=9, cfg=None) as run:
            for _ in range(9):
                torch.testing.assert_close(model(**inputs)[0], plain, rtol=1e-4, atol=1e-4)
                run.step()
    kinds = tocache.report(model).steps_by_kind
    assert kinds.pop("full") == 1
    assert sum(kinds.values()) == 8
