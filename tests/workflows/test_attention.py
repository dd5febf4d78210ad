"""Other attention processors and backends, fused projections, chunks and slices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0, SlicedAttnProcessor

import tocache

from .pipelines import PARTIAL, check_workflow, class_pipe, draw_class, draw_flux, draw_text, flux_pipe, text_pipe

PIPES = [(class_pipe, draw_class), (text_pipe, draw_text), (flux_pipe, draw_flux)]
IDS = ["dit", "pixart", "flux"]


def drawn_with(make: Any, draw: Any, change: Any) -> None:
    """`change(pipe)` while the cache is on changes nothing but how attention is worked out."""
    pipe = make(dtype=torch.float64)
    tocache.enable(pipe, PARTIAL)
    before = draw(pipe)
    change(pipe)
    torch.testing.assert_close(draw(pipe), before, rtol=1e-6, atol=1e-6)
    assert tocache.report(pipe).overruled == 0


@pytest.mark.parametrize(("make", "draw"), PIPES[1:], ids=IDS[1:])
def test_fused_projections(make: Any, draw: Any) -> None:
    drawn_with(make, draw, lambda pipe: pipe.transformer.fuse_qkv_projections())
    pipe = make()
    pipe.transformer.fuse_qkv_projections()
    check_workflow(pipe, draw)


def test_projections_fused_and_taken_apart_again() -> None:
    def change(pipe: Any) -> None:
        pipe.transformer.fuse_qkv_projections()
        draw_text(pipe)
        pipe.transformer.unfuse_qkv_projections()

    drawn_with(text_pipe, draw_text, change)


@pytest.mark.parametrize(("make", "draw"), PIPES, ids=IDS)
def test_another_backend(make: Any, draw: Any) -> None:
    """`_native_math` is one that runs everywhere."""
    pipe = make()
    if not hasattr(pipe.transformer, "set_attention_backend"):
        pytest.skip("this transformer has one backend, in this diffusers")
    drawn_with(make, draw, lambda pipe: pipe.transformer.set_attention_backend("_native_math"))


@pytest.mark.parametrize("processor", [AttnProcessor(), SlicedAttnProcessor(1)], ids=lambda p: type(p).__name__)
def test_a_processor_that_cannot_be_read_is_computed_where_scores_are_needed(processor: Any) -> None:
    pipe = class_pipe()
    for block in pipe.transformer.transformer_blocks:
        block.attn1.set_processor(processor)
    plain = draw_class(pipe)
    tocache.enable(pipe, tocache.FORA(3))  # needs no scores
    assert not torch.equal(draw_class(pipe), plain)
    assert tocache.report(pipe).overruled == 0
    tocache.enable(pipe, PARTIAL)
    with pytest.warns(tocache.TocacheWarning, match="does not call scaled_dot_product_attention"):
        assert draw_class(pipe).isfinite().all()
    assert tocache.report(pipe).overruled > 0
    tocache.enable(pipe, tocache.ToCa(3, 0.3, scores={"norm": 1.0}))  # a score of the tokens themselves
    draw_class(pipe)
    assert tocache.report(pipe).overruled == 0
    for block in pipe.transformer.transformer_blocks:
        block.attn1.set_processor(AttnProcessor2_0())
    tocache.disable(pipe)
    check_workflow(pipe, draw_class)


@pytest.mark.parametrize(("make", "draw"), PIPES, ids=IDS)
def test_slices_and_tiles(make: Any, draw: Any) -> None:
    """Those of the autoencoder; transformers have no attention slices, and the call changes nothing."""
    pipe = make()
    pipe.enable_attention_slicing()
    pipe.vae.enable_slicing()
    pipe.vae.enable_tiling()
    options = {} if make is class_pipe else {"output_type": "pt"}

    def two(pipe: Any) -> torch.Tensor:
        if make is class_pipe:
            return draw_class(pipe, seeds=(0, 1))
        generators = [torch.Generator().manual_seed(n) for n in range(2)]
        return draw(pipe, num_images_per_prompt=2, generator=generators, **options)

    check_workflow(pipe, two)


def test_chunked_mlps() -> None:
    """They are computed whole and warned of (tests/engine/test_layers.py); the rest of a plan goes on."""
    pipe = class_pipe()
    for block in pipe.transformer.transformer_blocks:
        block.set_chunk_feed_forward(8, 1)
    plain = draw_class(pipe)
    tocache.enable(pipe, tocache.Uncached())
    with pytest.warns(tocache.TocacheWarning, match="chunked"):
        assert torch.equal(draw_class(pipe), plain)
    tocache.enable(pipe, tocache.FORA(3))
    with pytest.warns(tocache.TocacheWarning, match="chunked"):
        assert not torch.equal(draw_class(pipe), plain)
