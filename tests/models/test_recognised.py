"""Models that no family lists: what their sub-layers do is seen, not believed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tocache
from tocache.demo.random_weights import fill_body, seeded
from tocache.methods import Early
from tocache.models import registry
from tocache.models.probing import Found, probe
from tocache.models.recognised import candidates, recognise
from tocache.models.registry import family_of

WIDTH, TOKENS, TEXT = 8, 6, 3


class Attend(nn.Module):
    """One head, over the stream itself or over a text; `rotated` queries carry their places."""

    def __init__(self, rotated: bool = False) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.rotated = rotated

    def forward(self, hidden_states: torch.Tensor, text: torch.Tensor | None = None) -> torch.Tensor:
        source = hidden_states if text is None else text
        query = self.to_q(hidden_states)
        if self.rotated:
            query = query * torch.linspace(0, 1, query.shape[1])[:, None]
        query, key, value = query[:, None], self.to_k(source)[:, None], self.to_v(source)[:, None]
        return F.scaled_dot_product_attention(query, key, value)[:, 0]


class Mix(nn.Module):
    """An MLP that also looks at a token's neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x.transpose(1, 2)).transpose(1, 2)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn1, self.attn2, self.attn3 = Attend(), Attend(), Attend(rotated=True)
        self.norm_attn = nn.LayerNorm(WIDTH)
        self.ff = nn.Sequential(nn.Linear(WIDTH, 16), nn.GELU(), nn.Linear(16, WIDTH))
        self.mix_mlp, self.text_mlp, self.proj_mlp = Mix(), Twice(), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        x = x + self.attn1(self.norm_attn(x)) + self.attn2(x, text=text) + self.attn3(x, text=text)
        x = x + self.ff(x)
        return x + self.mix_mlp(x) + self.text_mlp(x) + self.text_mlp(x * 2)


class Toy(nn.Module):
    """All that can be met in a block."""

    def __init__(self, depth: int = 2) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        self.heads = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    def forward(self, x: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor]:
        for block in self.blocks:
            x = block(x, text)
        return (x,)


@pytest.fixture
def toy() -> Toy:
    with seeded(0):
        return Toy().eval()


def inputs(rows: int = 2, tokens: int = TOKENS) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"x": (rows, tokens, WIDTH), "text": (rows, TEXT, WIDTH)}
    return {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}


class TestWhatIsSeen:
    def test_candidates_are_attention_and_mlps_of_blocks_that_have_both(self, toy: Toy) -> None:
        names = ("attn1", "attn2", "attn3", "ff", "mix_mlp", "text_mlp")
        assert candidates(toy) == tuple(f"blocks.{b}.{name}" for b in range(2) for name in names)

    def test_each_module_shows_what_it_does(self, toy: Toy) -> None:
        found = probe(toy, candidates(toy), inputs())
        for b in range(2):
            kinds = {name: found[f"blocks.{b}.{name}"] for name in ("attn1", "attn2", "attn3", "ff", "mix_mlp")}
            assert {name: module.token_wise for name, module in kinds.items() if isinstance(module, Found)} == {
                "attn1": False,
                "attn2": True,
                "attn3": False,  # its queries carry places
                "ff": True,
                "mix_mlp": False,
            }
            assert found[f"blocks.{b}.text_mlp"] == "it is called more than once in a forward"

    def test_flops_are_those_of_the_parts(self, toy: Toy) -> None:
        found = probe(toy, candidates(toy), inputs())
        flops = {path: module.flops for path, module in found.items() if isinstance(module, Found)}
        projection = 2 * 2 * TOKENS * WIDTH * WIDTH  # rows × tokens, 2 × multiply-accumulate
        assert flops["blocks.0.ff"] == 2 * projection * 16 // WIDTH
        # queries and attention; keys and values of the text do not grow with the tokens
        assert flops["blocks.0.attn2"] == projection + 2 * 2 * 2 * TOKENS * TEXT * WIDTH
        assert flops["blocks.0.attn1"] == 3 * projection + 2 * 2 * 2 * TOKENS**2 * WIDTH

    def test_what_folds_tokens_into_rows_is_left_to_the_model(self) -> None:
        class Folded(Toy):
            def forward(self, x: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor]:
                first, *others = self.blocks
                x = first(x.reshape(-1, 2, WIDTH), text.repeat(TOKENS // 2, 1, 1)).reshape(x.shape)
                for block in others:
                    x = block(x, text)
                return (x,)

        with seeded(0):
            model = Folded(depth=3).eval()
        family = recognise(model)
        assert family is not None
        assert family.measure(model, inputs()).rows == 2
        assert {layer.module.split(".")[1] for layer in family.layers(model)} == {"1", "2"}


def drawn(model: Any, arguments: dict[str, Any], method: Any, steps: int = 9) -> tuple[torch.Tensor, tocache.Report]:
    """What the last step of a run gives where all steps have the same input."""
    tocache.enable(model, method)
    with torch.no_grad(), tocache.run(model, timesteps=steps, cfg=None) as run:
        for _ in range(steps):
            output = model(**arguments)[0]
            run.step()
    report = tocache.report(model)
    tocache.disable(model)
    return output, report


METHODS = [tocache.Uncached(), tocache.FORA(3), tocache.ToCa(3, 0.5), tocache.ToCa(3, 0.5, share="block")]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_what_is_served_is_what_would_be_computed(toy: Toy, method: Any) -> None:
    """With the same input in every step a cache changes nothing but the cost."""
    plain = toy(**inputs())[0]
    output, report = drawn(toy, inputs(), method)
    torch.testing.assert_close(output, plain, rtol=1e-4, atol=1e-5)
    assert report.overruled == 0
    assert report.cache_bytes_peak == report.cache_bytes_planned
    assert report.flops_computed == report.flops_planned <= report.flops_uncached
    assert "not listed" in str(report.notes)
    assert torch.equal(toy(**inputs())[0], plain)


def test_stacks_that_take_turns_are_served_by_their_sub_layers() -> None:
    """What one of them adds is no feature, for the other adds to it in between."""

    class InTurns(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.others = nn.ModuleList(Block() for _ in range(2))

        def forward(self, x: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor]:
            for block, other in zip(self.blocks, self.others, strict=True):
                x = other(block(x, text), text)
            return (x,)

    with seeded(0):
        model = InTurns().eval()
    plain = model(**inputs())[0]
    output, report = drawn(model, inputs(), Early(2))
    torch.testing.assert_close(output, plain, rtol=1e-4, atol=1e-5)
    assert report.flops_computed == report.flops_planned < report.flops_uncached
    with pytest.raises(tocache.OptionError, match=r"region blocks.* is not allowed.*take turns with others"):
        drawn(model, inputs(), Early(2, where="stack"))
    tocache.disable(model)


def test_what_cannot_be_is_refused_before_the_first_forward(toy: Toy) -> None:
    with pytest.raises(tocache.OptionError, match="storage='int4' is not allowed"):
        tocache.enable(toy, tocache.FORA(3), storage="int4")
    foreign = tocache.plan_model("pixart-xl-2-256", "balanced")
    with pytest.raises(tocache.PlanMismatchError, match=r"model: plan PixArtTransformer2DModel.*, here Toy 2"):
        tocache.enable(toy, foreign)
    with pytest.raises(tocache.NotEnabledError):
        tocache.report(toy)


def test_other_shapes_are_probed_and_planned_anew(toy: Toy) -> None:
    tocache.enable(toy, tocache.ToCa(3, 0.5))
    with torch.no_grad():
        for rows, tokens in ((2, TOKENS), (1, 10), (2, TOKENS)):
            x = inputs(rows, tokens)
            with tocache.run(toy, timesteps=9, cfg=None) as run:
                for _ in range(9):
                    assert toy(**x)[0].shape == (rows, tokens, WIDTH)
                    run.step()
            report = tocache.report(toy)
            assert (report.rows, report.plan.anatomies[0].shape.tokens, report.overruled) == (
                rows,
                {"image": tokens},
                0,
            )


def test_a_model_without_such_blocks_is_refused_at_once() -> None:
    with pytest.raises(tocache.UnsupportedModelError, match="no model family serves Sequential"):
        family_of(nn.Sequential(nn.Linear(2, 2)))


def test_a_model_whose_sub_layers_take_no_tokens_is_refused_by_name(toy: Toy) -> None:
    class Flat(Toy):
        def forward(self, x: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor]:
            return (self.blocks[0].ff(x.reshape(-1, WIDTH)),)

    model = Flat().eval()
    tocache.enable(model, tocache.FORA(3))
    with (
        tocache.run(model, timesteps=9, cfg=None),
        pytest.raises(tocache.UnsupportedModelError, match=r"Flat is not listed.*no stream of tokens"),
    ):
        model(**inputs())
    tocache.disable(model)


def _text(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def _hunyuan_dit() -> tuple[Any, dict[str, Any]]:
    sizes = {"sample_size": 8, "patch_size": 2, "in_channels": 4, "num_layers": 2, "attention_head_dim": 8}
    texts = {
        "cross_attention_dim": 8,
        "cross_attention_dim_t5": 8,
        "pooled_projection_dim": 4,
        "text_len": 4,
        "text_len_t5": 4,
    }
    model = diffusers.HunyuanDiT2DModel(**sizes, **texts, num_attention_heads=2, hidden_size=16, mlp_ratio=2.0)
    arguments = {"hidden_states": _text(2, 4, 8, 8), "timestep": torch.tensor([500.0, 500.0])}
    arguments |= {"encoder_hidden_states": _text(2, 4, 8), "text_embedding_mask": torch.ones(2, 4)}
    arguments |= {"encoder_hidden_states_t5": _text(2, 4, 8), "text_embedding_mask_t5": torch.ones(2, 4)}
    rope = (torch.ones(16, 8), torch.zeros(16, 8))
    more = {"image_meta_size": torch.ones(2, 6), "style": torch.zeros(2, dtype=torch.long), "image_rotary_emb": rope}
    return model, arguments | more | {"return_dict": False}


def _skyreels() -> tuple[Any, dict[str, Any]]:
    sizes = {"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "text_dim": 16}
    model = diffusers.SkyReelsV2Transformer3DModel(**sizes, freq_dim=16, ffn_dim=32, num_layers=2)
    arguments = {"hidden_states": _text(1, 4, 2, 8, 8), "timestep": torch.tensor([500]), "return_dict": False}
    return model, arguments | {"encoder_hidden_states": _text(1, 5, 16)}


def _lumina2() -> tuple[Any, dict[str, Any]]:
    sizes = {"sample_size": 8, "patch_size": 2, "in_channels": 4, "hidden_size": 24, "num_layers": 2, "cap_feat_dim": 8}
    heads = {"num_attention_heads": 3, "num_kv_heads": 1, "axes_dim_rope": (4, 2, 2), "axes_lens": (16, 16, 16)}
    model = diffusers.Lumina2Transformer2DModel(**sizes, **heads, num_refiner_layers=1, multiple_of=2)
    arguments = {"hidden_states": _text(2, 4, 8, 8), "timestep": torch.tensor([0.5, 0.5]), "return_dict": False}
    mask = torch.ones(2, 5, dtype=torch.bool)
    return model, arguments | {"encoder_hidden_states": _text(2, 5, 8), "encoder_attention_mask": mask}


# what single tokens are computed at, and what is computed whole
REAL: list[tuple[Callable[[], Any], set[str], set[str]]] = [
    (_hunyuan_dit, {"blocks.ff"}, {"blocks.attn1", "blocks.attn2"}),
    (_skyreels, {"blocks.attn2", "blocks.ffn"}, {"blocks.attn1"}),
    (
        _lumina2,
        {f"{stack}.feed_forward" for stack in ("noise_refiner", "context_refiner", "layers")},
        {f"{stack}.attn" for stack in ("noise_refiner", "context_refiner", "layers")},
    ),
]


@pytest.mark.parametrize(("make", "by_token", "whole"), REAL, ids=lambda v: getattr(v, "__name__", ""))
def test_classes_of_diffusers(make: Any, by_token: set[str], whole: set[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(registry, "FAMILIES", {})  # as if none of them were listed
    with seeded(0) as generator:
        model, arguments = make()
        fill_body(model.eval(), generator)
    with torch.no_grad():
        plain = model(**arguments)[0]
    for method in (tocache.Uncached(), tocache.ToCa(3, 0.3)):
        output, report = drawn(model, arguments, method)
        torch.testing.assert_close(output, plain, rtol=1e-4, atol=1e-4)
        assert report.overruled == 0
    assert report.speedup > 1.3
    sites = {rows: {_kind(site) for site in report.plan.sites if site.rows is rows} for rows in (True, False)}
    assert sites == {True: by_token, False: whole}


def _kind(site: Any) -> str:
    stack, _, name = site.name.split(".", 2)
    return f"{stack}.{name}"


def test_toca_without_options_needs_no_attention(toy: Toy) -> None:
    _, report = drawn(toy, inputs(tokens=20), tocache.ToCa())
    assert report.plan.policy.scores == {"norm": 1.0}
    assert set(report.steps_by_kind) == {"full", "partial"}


def test_scores_of_attention_work_where_a_self_attention_stands_beside(toy: Toy) -> None:
    _, report = drawn(toy, inputs(), tocache.ToCa(3, 0.5, scores={"influence": 1.0}))
    assert report.overruled == 0
    assert {site.self_map for site in report.plan.sites if site.rows} == {"blocks.0.attn1", "blocks.1.attn1"}


def test_nothing_keeps_a_model_alive_that_was_recognised() -> None:
    with seeded(0):
        model = Toy().eval()
    drawn(model, inputs(), tocache.FORA(3))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
