"""STDiT3: its size, its parts, masks of text and of frames, dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tocache.errors import OptionError
from tocache.opensora import STDiT3Transformer3DModel
from tocache.opensora.attention import CrossAttention, SelfAttention
from tocache.opensora.block import Conditioning, STDiT3Block
from tocache.opensora.embeddings import RotaryFrequencies, position_table

from .conftest import TEXT_LENGTH

CPU = torch.device("cpu")


def run(model: Any, rows: int = 2, time: float = 700.0, size: tuple[int, int] = (4, 6), **options: Any) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(rows, 4, 5, *size, generator=generator)
    text = torch.randn(rows, TEXT_LENGTH, 32, generator=generator)
    with torch.no_grad():
        sample: Tensor = model(x, torch.full((rows,), time), text, **options).sample
    return sample


def test_published_size() -> None:
    with torch.device("meta"):
        model = STDiT3Transformer3DModel()
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_207_643_936
    assert (model.config.num_layers, len(model.spatial_blocks), len(model.temporal_blocks)) == (28, 28, 28)


def test_sub_layers_know_no_gate() -> None:
    """`attn`, `cross_attn` and `mlp` give (B, N, C); without what they give, a block changes nothing."""
    torch.manual_seed(0)
    block = STDiT3Block(24, 2, 4.0, "time", qk_norm=True)
    x = torch.randn(2, 15, 24)
    given = Conditioning(torch.randn(2, 6, 24), None, torch.randn(2, 6 * 24), frames=5)
    shapes = []
    for name in ("attn", "cross_attn", "mlp"):
        block.get_submodule(name).register_forward_hook(lambda _m, _i, y: (shapes.append(y.shape), 0 * y)[1])
    assert torch.equal(block(x, given, RotaryFrequencies(12)), x)
    assert shapes == [x.shape] * 3


def test_each_axis_is_attended_alone() -> None:
    torch.manual_seed(0)
    rope = RotaryFrequencies(6)
    x = torch.randn(1, 3 * 4, 12)  # 3 frames of 4 places
    changed = x.clone()
    changed[0, 5] += 1.0  # frame 1, place 1
    for axis, seen in (("space", [4, 5, 6, 7]), ("time", [1, 5, 9])):
        attention = SelfAttention(12, 2, axis, qk_norm=True)  # type: ignore[arg-type]
        moved = (attention(x, 3, rope) - attention(changed, 3, rope)).abs().amax(dim=(0, 2)) > 1e-7
        assert moved.nonzero().flatten().tolist() == seen


def test_rotation_is_of_neighbouring_channels() -> None:
    rope = RotaryFrequencies(4)
    x = torch.tensor([[1.0, 0.0, 0.0, 1.0]]).expand(3, 4)
    cos, sin = rope.freqs.mul(2).cos(), rope.freqs.mul(2).sin()
    expected = torch.stack([cos[0], sin[0], -sin[1], cos[1]])
    torch.testing.assert_close(rope(x)[2], expected)
    assert torch.equal(rope(x)[0], x[0])


def test_caption_mask_equals_packing() -> None:
    """The original concatenates the captions of a batch and lets every row see its own."""
    torch.manual_seed(0)
    attention = CrossAttention(24, 2)
    x, text, lengths = torch.randn(2, 7, 24), torch.randn(2, 6, 24), (6, 2)
    masked = attention(x, text, (torch.arange(6) < torch.tensor(lengths)[:, None])[:, None, None])

    q = attention.q_linear(x).reshape(1, 14, 2, 12).transpose(1, 2)
    packed = torch.cat([row[:length] for row, length in zip(text, lengths, strict=True)])
    k, v = attention.kv_linear(packed).reshape(1, 8, 2, 2, 12).permute(2, 0, 3, 1, 4)
    own = torch.block_diag(*(torch.ones(7, length) for length in lengths)).bool()
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=own).transpose(1, 2).reshape(2, 7, 24)
    torch.testing.assert_close(masked, attention.proj(y))


def test_masked_text_is_not_seen(tiny_transformer: Callable[..., Any]) -> None:
    model = tiny_transformer()
    mask = (torch.arange(TEXT_LENGTH) < 5)[None].repeat(2, 1)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 4, 5, 4, 6, generator=generator)
    text = torch.randn(2, TEXT_LENGTH, 32, generator=generator)
    with torch.no_grad():
        whole = model(x, torch.tensor([10.0]), text, mask).sample
        short = model(x, torch.tensor([10.0]), text[:, :5]).sample
        of_four_dims = model(x, torch.tensor([10.0]), text[:, None], mask[:1], return_dict=False)[0]
    torch.testing.assert_close(whole, short)
    assert torch.equal(whole, of_four_dims)


class TestFrameMask:
    def test_no_frame_given_is_no_mask(self, tiny_transformer: Callable[..., Any]) -> None:
        model = tiny_transformer()
        assert torch.equal(run(model, frame_mask=torch.ones(2, 5, dtype=torch.bool)), run(model))

    def test_all_given_is_time_zero(self, tiny_transformer: Callable[..., Any]) -> None:
        model = tiny_transformer()
        assert torch.equal(run(model, frame_mask=torch.zeros(2, 5, dtype=torch.bool)), run(model, time=0.0))

    def test_rows_have_their_own(self, tiny_transformer: Callable[..., Any]) -> None:
        model = tiny_transformer()
        both = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
        torch.testing.assert_close(run(model, frame_mask=both)[1], run(model)[1])
        assert not torch.allclose(run(model, frame_mask=both)[0], run(model)[0], atol=1e-3)

    def test_modulation_is_by_frame(self) -> None:
        """A block under a mask is, frame by frame, what the two times give; its MLP is of the right input."""
        torch.manual_seed(0)
        block = STDiT3Block(24, 2, 4.0, "space", qk_norm=True)
        x = torch.randn(1, 12, 24)
        text, time, still = torch.randn(1, 4, 24), torch.randn(1, 144), torch.randn(1, 144)
        mask = torch.tensor([[True, False, True]])
        mixed = block(x, Conditioning(text, None, time, 3, still, mask))
        moving = block(x, Conditioning(text, None, time, 3))
        at_rest = block(x, Conditioning(text, None, still, 3))
        generated = mask.repeat_interleave(4, dim=1)[:, :, None]
        torch.testing.assert_close(mixed, torch.where(generated, moving, at_rest))

    def test_wrong_shape(self, tiny_transformer: Callable[..., Any]) -> None:
        with pytest.raises(OptionError, match=r"frame_mask has shape \(2, 4\); expected \(2, 5\)"):
            run(tiny_transformer(), frame_mask=torch.ones(2, 4))
        with pytest.raises(OptionError, match=r"encoder_attention_mask has shape \(2, 3\); expected \(2, 24\)"):
            run(tiny_transformer(), encoder_attention_mask=torch.ones(2, 3))


def test_sizes_are_told(tiny_transformer: Callable[..., Any]) -> None:
    model = tiny_transformer()
    assert not torch.equal(run(model, fps=24.0), run(model, fps=120.0))
    assert not torch.equal(run(model, height=480.0, width=854.0), run(model))
    assert torch.equal(run(model, height=32, width=torch.tensor([48, 48])), run(model))  # 8 times the latent


def test_odd_latents_are_padded(tiny_transformer: Callable[..., Any]) -> None:
    assert run(tiny_transformer(), size=(5, 7)).shape == (2, 8, 5, 5, 7)


def test_sizes_are_rounded_to_the_weights(tiny_transformer: Callable[..., Any]) -> None:
    """bf16 holds 852 and 856, not 854: the original tells its model what bf16 holds."""
    model = tiny_transformer().to(torch.bfloat16)
    assert torch.equal(run(model, height=480, width=854), run(model, height=480, width=856))
    assert not torch.equal(run(model, height=480, width=854), run(model, height=480, width=852))


def test_bf16(tiny_transformer: Callable[..., Any]) -> None:
    model = tiny_transformer()
    exact = run(model)
    rough = run(model.to(torch.bfloat16))
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.05 * exact.abs().max()


def test_rows_do_not_meet(tiny_transformer: Callable[..., Any]) -> None:
    model = tiny_transformer()
    generator = torch.Generator().manual_seed(4)
    x, text = torch.randn(3, 4, 5, 4, 6, generator=generator), torch.randn(3, TEXT_LENGTH, 32, generator=generator)
    mask = torch.arange(TEXT_LENGTH) < torch.tensor([[3], [9], [24]])
    times = torch.tensor([900.0, 500.0, 20.5])
    with torch.no_grad():
        together = model(x, times, text, mask).sample
        alone = [model(x[i : i + 1], times[i : i + 1], text[i : i + 1], mask[i : i + 1]).sample for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_gradient_checkpointing_changes_nothing(tiny_transformer: Callable[..., Any]) -> None:
    model = tiny_transformer()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.enable_gradient_checkpointing()
        model.zero_grad()
        x, text = torch.ones(1, 4, 2, 2, 2), torch.ones(1, 3, 32)
        model(x, torch.tensor([5.0]), text).sample.square().sum().backward()
        gradients.append(model.spatial_blocks[0].mlp.fc1.weight.grad.clone())
    torch.testing.assert_close(*gradients)


def test_positions_cover_the_same_range() -> None:
    """A frame of another shape has other steps between its rows and columns, and the same extent."""
    wide = position_table(2, 8, 8, scale=1.0, dtype=torch.float32, device=CPU)
    square = position_table(4, 4, 8, scale=1.0, dtype=torch.float32, device=CPU)
    assert torch.equal(wide[8, 4:], square[8, 4:])  # halfway down: row 1 of 2 as row 2 of 4
    assert torch.equal(wide[4, :4], square[2, :4])  # halfway across
    assert torch.equal(wide[0], torch.tensor([0.0, 0, 1, 1, 0, 0, 1, 1]))


def test_without_query_norms(tiny_transformer: Callable[..., Any]) -> None:
    model = tiny_transformer(qk_norm=False)
    assert isinstance(model.spatial_blocks[0].attn.q_norm, nn.Identity)
    assert run(model).isfinite().all()


def test_impossible_width(tiny_transformer: Callable[..., Any]) -> None:
    with pytest.raises(OptionError, match="a width of 6 is not allowed; allowed: a multiple of 4"):
        tiny_transformer(num_attention_heads=1, attention_head_dim=6)
