"""Column sums without a map against the map's, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from tocache.errors import UnknownNameError
from tocache.kernels import COLUMN_SUMS, attention_column_sums
from tocache.kernels.column_sums import ColumnSums

Map = Callable[..., torch.Tensor]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ODD_SHAPES = [(1, 1, 1, 1), (1, 3, 5, 8), (2, 4, 17, 7), (5, 2, 33, 16)]


def assert_sums(actual: torch.Tensor, expected: torch.Tensor, rtol: float = 1e-6) -> None:
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), expected, rtol=rtol, atol=1e-6)


@pytest.mark.usefixtures("any_block_size")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ODD_SHAPES)
def test_sums_equal_those_of_the_whole_map(
    head_mean_map: Map, projected: Map, shape: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    query, key = projected(shape, dtype=dtype), projected(shape, seed=1, dtype=dtype)
    assert_sums(attention_column_sums(query, key), head_mean_map(query, key).sum(1))


def test_sums_of_a_real_layer_are_exact_to_a_millionth(head_mean_map: Map, projected: Map) -> None:
    """Choices are compared with golden data in which neighbouring scores differ by about 1e-6."""
    query, key = (projected((2, 16, 256, 72), seed=seed, gain=1.5) for seed in (0, 1))
    expected = head_mean_map(query, key).sum(1)
    error = (attention_column_sums(query, key).double() - expected) / expected
    assert error.abs().max() < 1e-6


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 3),
    groups=st.sampled_from([(1, 1), (2, 1), (4, 2), (6, 3), (6, 1)]),
    rows=st.integers(1, 20),
    columns=st.integers(1, 20),
    dim=st.integers(1, 9),
    seed=st.integers(0, 2**31),
)
def test_grouped_query_heads_share_their_key_head(
    head_mean_map: Map,
    projected: Map,
    batch: int,
    groups: tuple[int, int],
    rows: int,
    columns: int,
    dim: int,
    seed: int,
) -> None:
    query = projected((batch, groups[0], rows, dim), seed=seed)
    key = projected((batch, groups[1], columns, dim), seed=seed + 1)
    assert_sums(attention_column_sums(query, key), head_mean_map(query, key).sum(1))


@pytest.mark.usefixtures("any_block_size")
@pytest.mark.parametrize("kind", ["bool", "added"])
@pytest.mark.parametrize("shape", [(11,), (9, 11), (2, 1, 1, 11), (1, 4, 1, 1), (2, 4, 9, 11)])
def test_masks_of_any_broadcast_shape_are_obeyed(
    head_mean_map: Map, projected: Map, shape: tuple[int, ...], kind: str
) -> None:
    query, key = projected((2, 4, 9, 8)), projected((2, 4, 11, 8), seed=1)
    draws = torch.rand(shape, generator=torch.Generator().manual_seed(2))
    mask = draws > 0.3 if kind == "bool" else draws * 3
    assert_sums(attention_column_sums(query, key, mask=mask), head_mean_map(query, key, mask).sum(1))


@pytest.mark.parametrize("kind", ["bool", "added"])
@pytest.mark.parametrize("with_logsumexp", [False, True])
def test_a_query_that_sees_no_key_adds_nothing(projected: Map, kind: str, with_logsumexp: bool) -> None:
    query, key = projected((1, 2, 3, 4)), projected((1, 2, 5, 4), seed=1)
    allowed = torch.ones(3, 5, dtype=torch.bool)
    allowed[1] = False
    added = torch.zeros(3, 5).masked_fill(~allowed, -torch.inf)
    known = torch.logsumexp(query @ key.transpose(-1, -2) / 2 + added, dim=-1) if with_logsumexp else None
    mask = allowed if kind == "bool" else added
    sums = attention_column_sums(query, key, mask=mask, logsumexp=known)
    assert sums.sum().item() == pytest.approx(2)  # two of three queries see something
    assert_sums(sums, attention_column_sums(query[:, :, [0, 2]], key).double())


def test_not_a_number_in_the_query_is_not_hidden(projected: Map) -> None:
    query, key = projected((2, 2, 3, 4)).clone(), projected((2, 2, 5, 4), seed=1)
    query[0, 0, 1, 2] = torch.nan
    sums = attention_column_sums(query, key, mask=torch.ones(3, 5, dtype=torch.bool))
    assert sums[0].isnan().all()
    assert sums[1].isfinite().all()


def test_saturated_attention_counts_the_queries_of_each_key() -> None:
    key = 1000 * torch.eye(4).view(1, 1, 4, 4)
    query = key[:, :, [0, 2, 2, 3, 2, 0]]
    assert attention_column_sums(query, key).tolist() == [[2, 0, 3, 1]]


def test_the_scale_replaces_the_default(head_mean_map: Map, projected: Map) -> None:
    query, key = projected((2, 3, 7, 4)), projected((2, 3, 7, 4), seed=1)
    sums = attention_column_sums(query, key, scale=0.125)
    assert_sums(sums, head_mean_map(query, key, scale=0.125).sum(1))
    assert not torch.allclose(sums, attention_column_sums(query, key))


@pytest.mark.usefixtures("any_block_size")
def test_a_known_logsumexp_gives_the_same_sums(head_mean_map: Map, projected: Map) -> None:
    query, key = projected((2, 3, 9, 4), gain=2), projected((2, 3, 11, 4), seed=1, gain=2)
    known = torch.logsumexp(query @ key.transpose(-1, -2) / 2, dim=-1)
    assert_sums(attention_column_sums(query, key, logsumexp=known), head_mean_map(query, key).sum(1), rtol=2e-6)


def test_chosen_queries_alone_are_summed_and_scaled_to_all(head_mean_map: Map, projected: Map) -> None:
    query, key = projected((2, 3, 8, 4)), projected((2, 3, 8, 4), seed=1)
    mask = torch.rand(8, 8, generator=torch.Generator().manual_seed(2)) > 0.3
    known = torch.logsumexp((query @ key.transpose(-1, -2) / 2).masked_fill(~mask, -torch.inf), dim=-1)
    chosen = torch.tensor([6, 1])
    expected = head_mean_map(query, key, mask)[:, chosen].sum(1) * 4
    for logsumexp in (None, known):
        assert_sums(
            attention_column_sums(query, key, mask=mask, logsumexp=logsumexp, query_index=chosen), expected, rtol=2e-6
        )


@pytest.mark.parametrize("shape", [(6,), (1, 6), (2, 1, 1, 6)])
def test_sums_of_all_single_queries_average_to_the_whole(projected: Map, shape: tuple[int, ...]) -> None:
    query, key = projected((2, 2, 5, 4)), projected((2, 2, 6, 4), seed=1)
    padding = torch.tensor([True, True, True, False, True, False]).expand(shape)  # hides the same from all queries
    parts = [attention_column_sums(query, key, mask=padding, query_index=torch.tensor([m])) for m in range(5)]
    assert_sums(torch.stack(parts).mean(0), attention_column_sums(query, key, mask=padding).double())


def test_no_map_of_all_heads_is_ever_held(projected: Map) -> None:
    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                self.elements = max(self.elements, out.untyped_storage().nbytes() // out.element_size())
            return out

    query, key = projected((1, 4, 1024, 8)), projected((1, 4, 1024, 8), seed=1)
    with Largest() as largest:
        attention_column_sums(query, key)
    assert 2**18 < largest.elements <= 2**19  # the map of all heads has 2**22


def test_inputs_that_want_gradients_are_read_without_any(projected: Map) -> None:
    query, key = projected((1, 2, 5, 4)).requires_grad_(), projected((1, 2, 5, 4), seed=1).requires_grad_()
    assert not attention_column_sums(query, key).requires_grad


def test_the_map_is_the_one_that_torch_attends_with(projected: Map) -> None:
    """Values that are unit vectors turn torch's attention into its map."""
    query, key = projected((2, 6, 9, 16)), projected((2, 3, 16, 16), seed=1)
    mask = torch.rand(2, 1, 9, 16, generator=torch.Generator().manual_seed(2)) * 4
    values = torch.eye(16).expand(2, 3, -1, -1)
    attended = F.scaled_dot_product_attention(query, key, values, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(attention_column_sums(query, key, mask=mask), attended.mean(1).sum(1))


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(COLUMN_SUMS, "_functions", dict(COLUMN_SUMS._functions))


def constant(value: float) -> ColumnSums:
    def sums(query: torch.Tensor, key: torch.Tensor, **_: object) -> torch.Tensor:
        return torch.full((key.shape[0], key.shape[2]), value)

    return sums


@pytest.mark.usefixtures("registry")
def test_auto_prefers_the_last_backend_registered_for_the_device(projected: Map) -> None:
    x = projected((1, 2, 4, 4))
    plain = attention_column_sums(x, x)
    COLUMN_SUMS.register("elsewhere", constant(1.0), devices=["cuda"])
    assert torch.equal(attention_column_sums(x, x), plain)
    COLUMN_SUMS.register("here", constant(2.0), devices=["cpu"])
    COLUMN_SUMS.register("also-here", constant(3.0), devices=["cpu", "cuda"])
    assert attention_column_sums(x, x).tolist() == [[3.0] * 4]
    COLUMN_SUMS.register("here", constant(4.0), devices=["cpu"])
    assert attention_column_sums(x, x).tolist() == [[4.0] * 4]
    assert [name for name in COLUMN_SUMS.names if name != "triton"] == ["torch", "elsewhere", "also-here", "here"]


@pytest.mark.usefixtures("registry")
def test_a_backend_can_be_named(projected: Map) -> None:
    x = projected((1, 2, 4, 4))
    plain = attention_column_sums(x, x)
    COLUMN_SUMS.register("here", constant(2.0), devices=["cpu"])
    assert torch.equal(attention_column_sums(x, x, backend="torch"), plain)
    assert attention_column_sums(x, x, backend="here").tolist() == [[2.0] * 4]


def test_an_unknown_backend_is_refused_with_the_known_names(projected: Map) -> None:
    x = projected((1, 2, 4, 4))
    with pytest.raises(UnknownNameError, match="auto, torch"):
        attention_column_sums(x, x, backend="trition")
