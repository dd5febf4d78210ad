"""A cache is for inference: what trains is refused, and says so."""

from __future__ import annotations

import pytest
import torch

import tocache

from .pipelines import PARTIAL, class_pipe, draw_class, draw_flux, flux_pipe


def test_training_mode_is_refused_until_it_is_left() -> None:
    pipe = flux_pipe()
    tocache.enable(pipe, PARTIAL)
    cached = draw_flux(pipe)
    pipe.transformer.train()
    with pytest.raises(tocache.RunError, match=r"training mode.*eval\(\)"):
        draw_flux(pipe)
    pipe.transformer.eval()
    assert torch.equal(draw_flux(pipe), cached)


def test_gradient_checkpointing_is_refused_where_gradients_flow() -> None:
    pipe = class_pipe()
    tocache.enable(pipe, PARTIAL)
    cached = draw_class(pipe)
    pipe.transformer.enable_gradient_checkpointing()
    assert torch.equal(draw_class(pipe), cached)  # pipelines draw without gradients, so nothing is checkpointed
    x = {"timestep": torch.tensor([500]), "class_labels": torch.tensor([3])}
    with tocache.run(pipe, timesteps=9, cfg=None):
        with pytest.raises(tocache.RunError, match="disable_gradient_checkpointing"):
            pipe.transformer(torch.zeros(1, 4, 8, 8), **x)
        pipe.transformer.disable_gradient_checkpointing()
        assert pipe.transformer(torch.zeros(1, 4, 8, 8), **x).sample.requires_grad


def test_a_training_step_outside_of_any_run_is_computed_whole() -> None:
    pipe = class_pipe()
    transformer = pipe.transformer.train()
    x = {"timestep": torch.tensor([500]), "class_labels": torch.tensor([3])}
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    def gradient() -> torch.Tensor:
        transformer.zero_grad()
        torch.manual_seed(0)
        transformer(latents, **x).sample.square().mean().backward()
        return transformer.transformer_blocks[0].ff.net[2].weight.grad.clone()

    plain = gradient()
    tocache.enable(transformer, PARTIAL)
    with pytest.warns(tocache.TocacheWarning, match="outside of any run"):
        assert torch.equal(gradient(), plain)
