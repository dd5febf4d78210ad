"""What is special about FLUX.2 under the cache: blocks in one module, an embedded guidance, pictures to be edited."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tocache
from tocache.models.flux2 import Flux2
from tocache.models.registry import family_of
from tocache.plan.anatomy import PARALLEL

from .miniatures.flux2 import FLUX2

pytestmark = pytest.mark.skipif(not hasattr(__import__("diffusers"), "Flux2KleinPipeline"), reason="no FLUX.2 here")

SIDE, TEXT, STEPS = 6, 5, 9


@pytest.fixture(scope="module")
def transformer() -> Any:
    return FLUX2.make(dtype=torch.float64).transformer


def inputs(transformer: Any, *, pictures: int = 0) -> dict[str, Any]:
    """Of one forward, the same every time; `pictures` to be edited stand before the one that is drawn."""
    dice = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(2, *shape, generator=dice, dtype=torch.float64)

    times = (*(10.0 * (1 + n) for n in range(pictures)), 0.0)
    ids = [torch.cartesian_prod(torch.tensor([t]), *[torch.arange(float(SIDE))] * 2, torch.zeros(1)) for t in times]
    image = torch.cat(ids).expand(2, -1, -1)
    return {
        "hidden_states": random(image.shape[1], transformer.config.in_channels),
        "encoder_hidden_states": random(TEXT, transformer.config.joint_attention_dim),
        "timestep": torch.full((2,), 0.5, dtype=torch.float64),
        "img_ids": image,
        "txt_ids": torch.cartesian_prod(*[torch.zeros(1)] * 3, torch.arange(float(TEXT))).expand(2, -1, -1),
        "return_dict": False,
    }


def outputs(transformer: Any, method: tocache.Method, **options: Any) -> list[torch.Tensor]:
    """By step, of a model that is given the same in all steps."""
    given, drawn = inputs(transformer, **options), []
    tocache.enable(transformer, method)
    with tocache.run(transformer, timesteps=STEPS, cfg=None) as run, torch.no_grad():
        for _ in range(STEPS):
            drawn.append(transformer(**given)[0])
            run.step()
    return drawn


def test_fresh_tokens_beside_a_kept_attention_are_what_the_whole_block_gives(transformer: Any) -> None:
    with torch.no_grad():
        plain = transformer(**inputs(transformer))[0]
    for step in outputs(transformer, tocache.ToCa(3, 0.3, scores={"influence": 1.0})):
        torch.testing.assert_close(step, plain, rtol=1e-9, atol=1e-9)
    report = tocache.report(transformer)
    tocache.disable(transformer)
    parallel = [i for i, site in enumerate(report.plan.sites) if site.kind == PARALLEL]
    assert (report.plan.amounts[1, 0, parallel] == -1).all()
    amounts = report.plan.amounts[4, 0, parallel]
    assert ((amounts > 0) & (amounts < SIDE**2 + TEXT)).all()
    assert report.overruled == 0


def test_queries_without_positions_never_reach_the_cache(transformer: Any) -> None:
    """In a partial step the blocks' attention is not computed: only the projections run, on the fresh tokens."""
    seen: list[int] = []
    module = transformer.single_transformer_blocks[0].attn.to_qkv_mlp_proj
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    outputs(transformer, tocache.ToCa(3, 0.3))
    handle.remove()
    site = tocache.report(transformer).plan
    tocache.disable(transformer)
    amounts = site.amounts[:, 0, site.anatomies[0].index["single_transformer_blocks.0"]]
    expected = [SIDE**2 + TEXT if amount == -1 else int(amount) for amount in amounts if amount != 0]
    assert seen == expected


def test_pictures_to_be_edited_make_the_stream_no_grid(transformer: Any) -> None:
    family = family_of(transformer)
    assert family.grid(transformer, inputs(transformer)) == (SIDE, SIDE)
    assert family.grid(transformer, inputs(transformer, pictures=1)) is None


def test_keys_of_pictures_to_be_edited_are_taken_out_and_put_in_as_without_a_cache(transformer: Any) -> None:
    full, alone = inputs(transformer, pictures=1), inputs(transformer)

    def drawn() -> list[torch.Tensor]:
        with torch.no_grad():
            first, kept = transformer(**full, kv_cache_mode="extract", num_ref_tokens=SIDE**2)
            rest = [transformer(**alone, kv_cache_mode="cached", kv_cache=kept)[0] for _ in range(2)]
        return [first, *rest]

    from diffusers.models.transformers.transformer_flux2 import Flux2KVAttnProcessor, Flux2KVParallelSelfAttnProcessor

    for block in transformer.transformer_blocks:
        block.attn.set_processor(Flux2KVAttnProcessor())
    for block in transformer.single_transformer_blocks:
        block.attn.set_processor(Flux2KVParallelSelfAttnProcessor())
    plain = drawn()
    tocache.enable(transformer, tocache.ToCa(3, 0.3))
    unread = pytest.warns(tocache.TocacheWarning, match="its tokens cannot be scored")
    with unread, tocache.run(transformer, timesteps=STEPS, cfg=None) as run, torch.no_grad():
        first, kept = transformer(**full, kv_cache_mode="extract", num_ref_tokens=SIDE**2)
        run.step()
        cached = [first]
        for _ in range(1, STEPS):
            cached.append(transformer(**alone, kv_cache_mode="cached", kv_cache=kept)[0])
            run.step()
    tocache.disable(transformer)
    torch.testing.assert_close(cached[0], plain[0], rtol=1e-9, atol=1e-9)
    for step in cached[1:]:
        torch.testing.assert_close(step, plain[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("embedded", "distilled", "passes"), [(False, False, 2), (True, False, 1), (False, True, 1)])
def test_guidance_has_a_pass_of_its_own_unless_it_is_embedded_or_distilled(
    embedded: bool, distilled: bool, passes: int
) -> None:
    config = SimpleNamespace(guidance_embeds=embedded)
    pipeline = SimpleNamespace(
        transformer=SimpleNamespace(config=config), config=SimpleNamespace(is_distilled=distilled)
    )
    assert len(Flux2().guidance(pipeline, {"guidance_scale": 4.0}).passes) == passes
