"""LoRA: loaded, scaled, fused, taken off again, all of it while the cache is on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict

import tocache

from .pipelines import PARTIAL, check_workflow, draw_flux, flux_pipe

# attention of both kinds, both MLPs of the double-stream blocks, and what single-stream blocks project in and out
TARGETS = ["to_q", "to_v", "add_k_proj", "to_out.0", "net.0.proj", "net.2", "proj_mlp", "proj_out"]


def lora(seed: int = 0) -> dict[str, torch.Tensor]:
    """A LoRA's weights as pipelines load them."""
    transformer = flux_pipe().transformer
    config = LoraConfig(r=2, lora_alpha=4, target_modules=TARGETS)
    transformer.add_adapter(config, adapter_name="a")
    generator = torch.Generator().manual_seed(seed)
    weights = get_peft_model_state_dict(transformer, adapter_name="a")
    return {f"transformer.{key}": 0.2 * torch.randn(w.shape, generator=generator) for key, w in weights.items()}


def enabled(*, with_lora: bool) -> tuple[Any, torch.Tensor]:
    pipe = flux_pipe()
    if with_lora:
        pipe.load_lora_weights(lora(), adapter_name="a")
    tocache.enable(pipe, PARTIAL)
    return pipe, draw_flux(pipe)


def test_loaded_before_the_cache() -> None:
    pipe = flux_pipe()
    plain = draw_flux(pipe)
    pipe.load_lora_weights(lora(), adapter_name="a")
    check_workflow(pipe, draw_flux)
    assert not torch.allclose(draw_flux(pipe), plain, atol=1e-2)
    report = tocache.report(pipe)
    assert report.flops_computed == report.flops_planned


def test_loaded_and_unloaded_while_enabled() -> None:
    pipe, without = enabled(with_lora=False)
    _, expected = enabled(with_lora=True)
    assert not torch.allclose(without, expected, atol=1e-2)
    for _ in range(2):
        pipe.load_lora_weights(lora(), adapter_name="a")
        assert torch.equal(draw_flux(pipe), expected)
        assert tocache.report(pipe).overruled == 0
        pipe.unload_lora_weights()
        assert torch.equal(draw_flux(pipe), without)
        assert tocache.report(pipe).overruled == 0
    tocache.disable(pipe)
    assert torch.equal(draw_flux(pipe), draw_flux(flux_pipe()))


def test_loaded_while_enabled_and_left_there_by_disable() -> None:
    pipe, _ = enabled(with_lora=False)
    pipe.load_lora_weights(lora(), adapter_name="a")
    draw_flux(pipe)
    tocache.disable(pipe)
    plain = flux_pipe()
    plain.load_lora_weights(lora(), adapter_name="a")
    assert torch.equal(draw_flux(pipe), draw_flux(plain))
    assert list(pipe.transformer.state_dict()) == list(plain.transformer.state_dict())


def test_fused_and_taken_apart_while_enabled() -> None:
    pipe, expected = enabled(with_lora=True)
    pipe.fuse_lora()
    torch.testing.assert_close(draw_flux(pipe), expected, rtol=1e-3, atol=1e-3)
    pipe.unfuse_lora()
    torch.testing.assert_close(draw_flux(pipe), expected, rtol=1e-3, atol=1e-3)
    assert tocache.report(pipe).overruled == 0


def test_fused_and_then_unloaded() -> None:
    """The usual way to keep a LoRA for good: plain layers come back in place of those that held it."""
    pipe, expected = enabled(with_lora=True)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    torch.testing.assert_close(draw_flux(pipe), expected, rtol=1e-3, atol=1e-3)
    assert tocache.report(pipe).overruled == 0


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute:UserWarning")
def test_scaled_switched_off_and_exchanged_while_enabled() -> None:
    pipe, expected = enabled(with_lora=True)
    _, without = enabled(with_lora=False)
    pipe.load_lora_weights(lora(1), adapter_name="b")
    pipe.set_adapters("b")
    assert not torch.allclose(draw_flux(pipe), expected, atol=1e-2)
    pipe.set_adapters("a", 0.5)
    assert not torch.allclose(draw_flux(pipe), expected, atol=1e-2)
    pipe.set_adapters("a", 1.0)
    assert torch.equal(draw_flux(pipe), expected)
    pipe.disable_lora()
    assert torch.equal(draw_flux(pipe), without)
    pipe.enable_lora()
    assert torch.equal(draw_flux(pipe), expected)


@pytest.mark.parametrize("when", [2, 5])
def test_scaled_in_the_middle_of_a_run(when: int) -> None:
    """What is cached then is of the old scale until the next full step; nothing else happens."""
    pipe, expected = enabled(with_lora=True)

    def switch(pipe: Any, step: int, _: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        if step == when:
            pipe.set_adapters("a", 0.0)
        return inputs

    drawn = draw_flux(pipe, callback_on_step_end=switch)
    assert drawn.isfinite().all()
    assert not torch.equal(drawn, expected)
    assert tocache.report(pipe).overruled == 0
