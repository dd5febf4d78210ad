"""Features in 8 bits: how exact they are, and fresh tokens among them."""

from __future__ import annotations

import pytest
import torch

from tocache.features import pack, put_rows, unpack

STORAGES = ("same", "int8", "fp8")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def feature(rows: int, tokens: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    """Tokens of very different lengths, one of them zero."""
    generator = torch.Generator().manual_seed(rows + tokens + width)
    lengths = 10.0 ** torch.linspace(-3, 3, tokens)[:, None]
    value = torch.randn(rows, tokens, width, generator=generator) * lengths
    value[:, tokens // 2] = 0
    return value.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 8), (3, 17, 33)])
def test_int8_is_off_by_half_a_255th_of_the_largest_number_of_a_token(dtype, shape):
    value = feature(*shape, dtype)
    error = (unpack(pack(value, "int8")).float() - value.float()).abs()
    allowed = value.float().abs().amax(dim=-1, keepdim=True) / 254
    rounding = value.float().abs() * torch.finfo(dtype).eps  # on the way back to dtype
    assert (error <= allowed * 1.001 + rounding).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 8), (3, 17, 33)])
def test_fp8_is_off_by_a_16th_of_each_number_or_less_than_the_smallest_step(dtype, shape):
    value = feature(*shape, dtype)
    error = (unpack(pack(value, "fp8")).float() - value.float()).abs()
    largest = value.float().abs().amax(dim=-1, keepdim=True)
    smallest = largest / 448 * 2.0**-9 / 2  # half of a subnormal
    assert (error <= value.float().abs() * (1 / 16 + torch.finfo(dtype).eps) + smallest).all()


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_feature_has_its_shape_dtype_and_bytes(storage, dtype):
    value = feature(2, 6, 16, dtype)
    packed = pack(value, storage)
    assert unpack(packed).shape == value.shape
    assert unpack(packed).dtype == dtype
    assert packed.nbytes == (2 * 6 * 16 * dtype.itemsize if storage == "same" else 2 * 6 * (16 + 4))


def test_the_same_is_the_tensor_itself():
    value = feature(2, 6, 16, torch.float32)
    assert unpack(pack(value, "same")) is value


@pytest.mark.parametrize("storage", STORAGES)
def test_zero_stays_zero(storage):
    assert not unpack(pack(torch.zeros(1, 3, 4), storage)).any()


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("inference", [False, True])
def test_fresh_tokens_bring_their_scale_and_leave_the_others_to_the_bit(storage, inference):
    with torch.inference_mode(inference):
        packed = pack(feature(2, 9, 8, torch.float32), storage)
        before = unpack(packed).clone()
    index = torch.tensor([[7, 0, 3], [1, 8, 2]])
    rows = 1000 * torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode(inference):
        after = unpack(put_rows(packed, rows, index))
        expected = before.scatter(1, index[..., None].expand(-1, -1, 8), unpack(pack(rows, storage)))
    assert torch.equal(after, expected)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_feature_of_inference_mode_takes_fresh_tokens_outside_of_it(storage):
    with torch.inference_mode():
        packed = pack(feature(1, 4, 8, torch.float32), storage)
    new = put_rows(packed, torch.ones(1, 1, 8), torch.tensor([[2]]))
    torch.testing.assert_close(unpack(new)[0, 2], torch.ones(8))
    assert not torch.equal(unpack(packed)[0, 2], torch.ones(8))
