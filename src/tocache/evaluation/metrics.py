"""How far pictures and videos are from others: pure functions of tensors.

Pictures are (B, C, H, W), videos (B, F, C, H, W); values lie in [0, 1] unless `peak` says otherwise, in any dtype that
holds fractions. Every paired metric returns one float64 per picture or video, a video's being the mean over its frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tocache.errors import OptionError

_KERNEL, _DEVIATION = 11, 1.5  # of the Gaussian window of SSIM: its side and its deviation in pixels
_PICTURE, _VIDEO = 4, 5  # dimensions
_DRAWN = 1 << 18  # numbers that a bootstrap holds at once, 2 MiB


def psnr(pictures: Tensor, references: Tensor, *, peak: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio 10 log10(peak² / mean squared error): (B,) in dB, infinite for equal ones.

    The error is the mean over all frames, pixels and channels. Raises OptionError for unequal shapes.
    """
    one, other = _paired(pictures, references)
    error = (one - other).square().flatten(1).mean(dim=1)
    return 10 * torch.log10(peak**2 / error)


def ssim(pictures: Tensor, references: Tensor, *, peak: float = 1.0) -> Tensor:
    """Structural similarity (Wang et al. 2004, equation 13, Gaussian window of 11 pixels): (B,), 1 for equal ones.

    The mean over all windows that lie within the picture, in float64: the variances are differences of means of
    squares. Raises OptionError for unequal shapes, and for sides below 11 pixels.
    """
    one, other = (_frames(x) for x in _paired(pictures, references))
    if min(one.shape[-2:]) < _KERNEL:
        raise OptionError(f"SSIM of {one.shape[-2]} × {one.shape[-1]} pixels; allowed: sides of at least {_KERNEL}")
    mean, other_mean = _windows(one), _windows(other)
    product, squares = mean * other_mean, mean.square() + other_mean.square()
    variances = _windows(one.square() + other.square()) - squares
    covariance = _windows(one * other) - product
    light, contrast = (0.01 * peak) ** 2, (0.03 * peak) ** 2  # C1 and C2 of the paper
    places = (2 * product + light) * (2 * covariance + contrast) / ((squares + light) * (variances + contrast))
    return places.reshape(len(pictures), -1).mean(dim=1)


def feature_distance(features: Tensor, references: Tensor) -> Tensor:
    """Mean over places of |f/|f| − g/|g||²: (B,) for features (B, C, …) with the channels in dimension 1.

    As LPIPS (Zhang et al., arXiv 1801.03924, equation 1) in one layer and without learned weights. Lies in [0, 4]; a
    zero vector has no direction and is left as it is. Raises OptionError for unequal shapes.
    """
    one, other = (F.normalize(x, dim=1) for x in _paired(features, references, dimensions=None))
    return (one - other).square().sum(dim=1).reshape(len(one), -1).mean(dim=1)


def paired_distance(extract: Callable[[Tensor], Tensor], pictures: Tensor, references: Tensor) -> Tensor:
    """`feature_distance` in the features that `extract` reads off pictures, (B, C, H, W) → (B, D, …): (B,)."""
    _paired(pictures, references)
    by_frame = feature_distance(extract(_frames(pictures)), extract(_frames(references)))
    return by_frame.reshape(len(pictures), -1).mean(dim=1)


def frechet_distance(features: Tensor, references: Tensor) -> float:
    """Fréchet distance between Gaussians fitted to two sets of features, (N, D) and (M, D).

    Covariances are unbiased, as in the published FID. Raises OptionError where a set has fewer than two members.
    """
    moments = []
    for name, one in (("features", features), ("references", references)):
        if one.dim() != 2 or len(one) < 2:
            raise OptionError(f"{name} of shape {tuple(one.shape)}; allowed: (N, D), N at least 2")
        width = one.shape[1]
        moments += [one.double().mean(dim=0), torch.cov(one.double().T).reshape(width, width)]
    return frechet_of_moments(*moments)


def frechet_of_moments(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """|μ − μ'|² + tr(Σ + Σ' − 2 (ΣΣ')^½) (Dowson and Landau 1982, equation 16), in float64; means (D,), others (D, D).

    The trace of the root is the sum of the square roots of the eigenvalues of Σ^½ Σ' Σ^½, which is symmetric. Raises
    OptionError for unequal shapes.
    """
    if mean.shape != other_mean.shape or covariance.shape != other_covariance.shape:
        raise OptionError(f"features of {len(mean)} and {len(other_mean)} channels cannot be compared")
    mean, covariance, other_mean, other_covariance = (
        x.double() for x in (mean, covariance, other_mean, other_covariance)
    )
    root = _square_root(covariance)
    product = root @ other_covariance @ root
    shared = torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(0).sqrt().sum()
    distance = (mean - other_mean).square().sum() + covariance.trace() + other_covariance.trace() - 2 * shared
    return max(0.0, float(distance))


def bootstrap_interval(
    values: Sequence[float] | Tensor,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    statistic: Callable[[Tensor], Tensor] = lambda drawn: drawn.mean(dim=1),
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic (Efron 1979): the mean, unless another is given.

    values     one number per picture
    statistic  (resamples, N) → (resamples,)

    Raises OptionError where there are no values, or `level` is not between 0 and 1.
    """
    numbers = torch.as_tensor(values, dtype=torch.float64)
    if numbers.dim() != 1 or len(numbers) == 0:
        raise OptionError(f"values of shape {tuple(numbers.shape)}; allowed: (N,), N at least 1")
    if not 0 < level < 1:
        raise OptionError(f"level={level!r} is not allowed; allowed: a number between 0 and 1")
    generator = torch.Generator().manual_seed(seed)
    at_once = max(1, _DRAWN // len(numbers))
    drawn = []
    for first in range(0, resamples, at_once):
        shape = (min(at_once, resamples - first), len(numbers))
        drawn.append(statistic(numbers[torch.randint(len(numbers), shape, generator=generator)]))
    tail = (1 - level) / 2
    low, high = torch.quantile(torch.cat(drawn), torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def _paired(one: Tensor, other: Tensor, dimensions: tuple[int, ...] | None = (_PICTURE, _VIDEO)) -> tuple[Tensor, ...]:
    """Both in float64. Raises OptionError where their shapes differ or are of another kind."""
    if one.shape != other.shape:
        raise OptionError(f"shapes {tuple(one.shape)} and {tuple(other.shape)} cannot be paired")
    if dimensions is not None and one.dim() not in dimensions:
        raise OptionError(f"shape {tuple(one.shape)} is not allowed; allowed: (B, C, H, W) or (B, F, C, H, W)")
    return one.double(), other.double()


def _frames(pictures: Tensor) -> Tensor:
    """(B, F, C, H, W) → (B · F, C, H, W); pictures as they are."""
    return pictures.flatten(0, 1) if pictures.dim() == _VIDEO else pictures


def _windows(x: Tensor) -> Tensor:
    """Weighted means over the windows of SSIM: (…, H, W) → (…, H − 10, W − 10).

    A row of weights down, then across, as sums of shifted pictures: a float64 convolution takes a hundred times as long
    on a CPU.
    """
    places = torch.arange(_KERNEL, dtype=torch.float64) - _KERNEL // 2
    weights = torch.exp(-(places.square()) / (2 * _DEVIATION**2))
    weights /= weights.sum()
    for dimension in (-2, -1):
        length = x.shape[dimension] - _KERNEL + 1
        summed = x.narrow(dimension, 0, length) * weights[0].item()
        for i in range(1, _KERNEL):
            summed.add_(x.narrow(dimension, i, length), alpha=weights[i].item())
        x = summed
    return x


def _square_root(matrix: Tensor) -> Tensor:
    """The positive root of a symmetric matrix; rounding below zero counts as zero."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root
