"""Metrics against their formulas, over odd shapes and dtypes."""

from __future__ import annotations

import math

import pytest
import torch

from tocache.demo.judge import Judge, perceptual_distance
from tocache.errors import OptionError
from tocache.evaluation.metrics import (
    bootstrap_interval,
    feature_distance,
    frechet_distance,
    frechet_of_moments,
    paired_distance,
    psnr,
    ssim,
)

SHAPES = [(1, 3, 11, 11), (3, 1, 13, 40), (2, 3, 17, 12), (2, 4, 3, 11, 15)]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_psnr_of_a_constant_error(shape, dtype):
    pictures = (noise(*shape) / 2).to(dtype)
    other = pictures.double() + 0.125
    assert psnr(pictures, other).tolist() == pytest.approx([-20 * math.log10(0.125)] * shape[0])
    assert psnr(255 * pictures.double(), 255 * other, peak=255).tolist() == pytest.approx([18.0618] * shape[0])
    assert psnr(pictures, pictures).tolist() == [math.inf] * shape[0]


def test_psnr_is_of_each_picture():
    one, other = torch.zeros(2, 3, 5, 7), torch.zeros(2, 3, 5, 7)
    other[0], other[1, 0] = 0.1, 0.1  # the second errs in one channel of three
    assert psnr(one, other).tolist() == pytest.approx([20.0, 20 + 10 * math.log10(3)])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_ssim_of_flat_pictures_compares_their_means(shape, dtype):
    a, b, c1 = 0.25, 0.75, 0.01**2
    one, other = (torch.full(shape, value, dtype=dtype) for value in (a, b))
    wanted = (2 * a * b + c1) / (a * a + b * b + c1)
    assert ssim(one, other).tolist() == pytest.approx([wanted] * shape[0], rel=1e-6)
    assert ssim(one, one).tolist() == pytest.approx([1.0] * shape[0])


def test_ssim_of_a_video_is_the_mean_over_its_frames():
    one, other = noise(2, 3, 3, 16, 19), noise(2, 3, 3, 16, 19, seed=1)
    frames = ssim(one.flatten(0, 1), other.flatten(0, 1)).reshape(2, 3)
    torch.testing.assert_close(ssim(one, other), frames.mean(dim=1))


def test_ssim_against_its_definition_at_one_place():
    one, other = noise(1, 1, 11, 11), noise(1, 1, 11, 11, seed=1)
    line = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    weights = torch.outer(line, line) / line.sum() ** 2
    mean = [(weights * x[0, 0]).sum() for x in (one, other)]
    var = [(weights * (x[0, 0] - m) ** 2).sum() for x, m in zip((one, other), mean, strict=True)]
    cov = (weights * (one[0, 0] - mean[0]) * (other[0, 0] - mean[1])).sum()
    c1, c2 = 0.01**2, 0.03**2
    wanted = (2 * mean[0] * mean[1] + c1) * (2 * cov + c2) / ((mean[0] ** 2 + mean[1] ** 2 + c1) * (sum(var) + c2))
    # all but the middle window is cut off, as no full one fits
    assert float(ssim(one, other)) == pytest.approx(float(wanted), rel=1e-4)


@pytest.mark.parametrize("peak", [1.0, 255.0])
def test_ssim_equals_torchmetrics_within_the_picture(peak):
    from torchmetrics.functional.image import structural_similarity_index_measure

    one, other = peak * noise(2, 3, 24, 31), peak * noise(2, 3, 24, 31, seed=1)
    options = {"data_range": peak, "reduction": "none", "return_full_image": True}
    _, places = structural_similarity_index_measure(one.double(), other.double(), **options)
    within = places[..., 5:-5, 5:-5].flatten(1).mean(dim=1)  # its own mean counts windows over the edge, too
    torch.testing.assert_close(ssim(one, other, peak=peak), within, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_what_cannot_be_paired_is_refused(metric):
    with pytest.raises(OptionError, match="cannot be paired"):
        metric(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 17))
    with pytest.raises(OptionError, match=r"\(B, C, H, W\)"):
        metric(torch.zeros(3, 16, 16), torch.zeros(3, 16, 16))


def test_ssim_refuses_pictures_smaller_than_its_window():
    with pytest.raises(OptionError, match="10 × 16"):
        ssim(torch.zeros(1, 3, 10, 16), torch.zeros(1, 3, 10, 16))


@pytest.mark.parametrize("places", [(), (7,), (3, 5), (2, 3, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_feature_distance_is_of_directions(places, dtype):
    first, second = torch.zeros(3, 4, *places, dtype=dtype), torch.zeros(3, 4, *places, dtype=dtype)
    first[:, 0], second[:, 1] = 2.0, 0.5  # at right angles, whatever their lengths
    assert feature_distance(first, second).tolist() == pytest.approx([2.0] * 3)
    assert feature_distance(first, -3 * first).tolist() == pytest.approx([4.0] * 3)
    assert feature_distance(first, 7 * first).tolist() == pytest.approx([0.0] * 3)


def test_paired_distance_in_the_judges_features_is_the_judges():
    judge = Judge().eval()
    one, other = noise(2, 3, 128, 128).float(), noise(2, 3, 128, 128, seed=1).float()

    def extract(pictures):
        with torch.inference_mode():
            return judge.features(pictures.float())

    found = paired_distance(extract, one, other)
    torch.testing.assert_close(found.float(), perceptual_distance(one, other, judge), rtol=1e-4, atol=1e-6)
    video = paired_distance(extract, torch.stack([one, one], dim=1), torch.stack([other, one], dim=1))
    torch.testing.assert_close(video, found / 2)


class TestFrechet:
    def test_of_axis_parallel_gaussians(self):
        a, b = torch.tensor([1.0, 4.0, 0.25]), torch.tensor([9.0, 1.0, 0.0])
        shift = torch.tensor([1.0, -2.0, 0.5])
        wanted = float((a.sqrt() - b.sqrt()).square().sum() + shift.square().sum())
        zero = torch.zeros(3)
        assert frechet_of_moments(zero, a.diag(), shift, b.diag()) == pytest.approx(wanted, abs=1e-10)

    def test_of_gaussians_at_an_angle(self):
        """In two dimensions tr (AB)^½ = (tr AB + 2 (det AB)^½)^½."""
        a = torch.tensor([[2.0, 0.7], [0.7, 1.0]], dtype=torch.float64)
        b = torch.tensor([[0.5, -0.3], [-0.3, 3.0]], dtype=torch.float64)
        root = ((a @ b).trace() + 2 * torch.linalg.det(a @ b).sqrt()).sqrt()
        wanted = float(a.trace() + b.trace() - 2 * root)
        zero = torch.zeros(2)
        assert frechet_of_moments(zero, a, zero, b) == pytest.approx(wanted, abs=1e-10)
        assert frechet_of_moments(zero, b, zero, a) == pytest.approx(wanted, abs=1e-10)

    @pytest.mark.parametrize("count", [2, 5, 200])
    def test_of_a_shifted_set_is_the_squared_shift(self, count):
        features = torch.randn(count, 24, generator=torch.Generator().manual_seed(0))
        shift = torch.linspace(-1, 1, 24)
        assert frechet_distance(features, features + shift) == pytest.approx(float(shift.square().sum()), rel=1e-5)
        assert frechet_distance(features, features) == pytest.approx(0, abs=1e-5)

    def test_of_sampled_gaussians_comes_near_the_exact_one(self):
        generator = torch.Generator().manual_seed(0)
        draws = [torch.randn(40_000, 4, generator=generator) for _ in range(2)]
        scale = torch.tensor([1.0, 2.0, 0.5, 3.0])
        wanted = float((scale - 1).square().sum()) + 4 * 0.25
        assert frechet_distance(draws[0], draws[1] * scale + 0.5) == pytest.approx(wanted, rel=0.02)

    def test_refuses_what_is_no_set(self):
        with pytest.raises(OptionError, match=r"features of shape \(1, 3\)"):
            frechet_distance(torch.zeros(1, 3), torch.zeros(5, 3))
        with pytest.raises(OptionError, match="3 and 4 channels"):
            frechet_distance(torch.zeros(5, 3), torch.zeros(5, 4))


class TestBootstrap:
    def test_of_a_constant_is_that_constant(self):
        assert bootstrap_interval([2.5] * 7) == (2.5, 2.5)
        assert bootstrap_interval([1.0]) == (1.0, 1.0)

    def test_holds_the_mean_as_often_as_it_says(self):
        draws = torch.randn(200, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        intervals = [bootstrap_interval(row, level=0.9, seed=i) for i, row in enumerate(draws)]
        assert 0.82 < sum(low <= 0 <= high for low, high in intervals) / 200 < 0.96

    def test_is_as_wide_as_the_standard_error(self):
        values = torch.randn(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        low, high = bootstrap_interval(values)
        assert high - low == pytest.approx(2 * 1.96 * float(values.std()) / 20, rel=0.1)

    def test_takes_another_statistic(self):
        low, high = bootstrap_interval([0.0, 0.0, 0.0, 9.0], statistic=lambda drawn: drawn.median(dim=1).values)
        assert (low, high) == (0.0, 9.0)

    def test_refuses_nothing_and_odd_levels(self):
        with pytest.raises(OptionError, match=r"shape \(0,\)"):
            bootstrap_interval([])
        with pytest.raises(OptionError, match="level=1"):
            bootstrap_interval([1.0], level=1)
