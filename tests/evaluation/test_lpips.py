"""LPIPS with weights made for the test: the published ones are not part of the package."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tocache.errors import OptionError
from tocache.evaluation.lpips import LPIPS, TRUNK, load_lpips

CONVOLUTIONS = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


def weights(seed: int = 0) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """AlexNet's layout, and heads that weigh every channel alike."""
    generator = torch.Generator().manual_seed(seed)
    trunk, heads = {"classifier.1.weight": torch.zeros(1)}, {}
    for i, (layer, (out, inner, side)) in enumerate(CONVOLUTIONS.items()):
        trunk[f"features.{layer}.weight"] = torch.randn(out, inner, side, side, generator=generator) * 0.05
        trunk[f"features.{layer}.bias"] = torch.randn(out, generator=generator) * 0.1
        heads[f"lin{i}.model.1.weight"] = torch.ones(1, out, 1, 1)
    return trunk, heads


def test_is_zero_for_equal_pictures_and_grows_with_noise():
    lpips = LPIPS(*weights())
    pictures = torch.rand(2, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(1))
    assert lpips(pictures, pictures).tolist() == [0.0, 0.0]
    near, far = (lpips(pictures, pictures + size * noise) for size in (0.05, 0.3))
    assert near.shape == (2,)
    assert bool(((near > 0) & (far > near)).all())


def test_sums_the_distances_of_all_five_layers():
    trunk, heads = weights()
    one, other = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    total = 0.0
    for head in heads:
        single = {name: weight * (name == head) for name, weight in heads.items()}
        total += float(LPIPS(trunk, single)(one, other))
    assert float(LPIPS(trunk, heads)(one, other)) == pytest.approx(total, rel=1e-5)
    # the first layer by hand
    mean, deviation = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    tapped = []
    for picture in (one, other):
        x = (2 * picture - 1 - mean[:, None, None]) / deviation[:, None, None]
        x = F.relu(F.conv2d(x, trunk["features.0.weight"], trunk["features.0.bias"], stride=4, padding=2))
        tapped.append(x / x.square().sum(dim=1, keepdim=True).sqrt())
    first = {name: weight * (name == "lin0.model.1.weight") for name, weight in heads.items()}
    wanted = float((tapped[0] - tapped[1]).square().sum(dim=1).mean())
    assert float(LPIPS(trunk, first)(one, other)) == pytest.approx(wanted, rel=1e-5)


def test_refuses_other_weights(tmp_path):
    trunk, heads = weights()
    with pytest.raises(OptionError, match="not the weights of LPIPS"):
        LPIPS({}, heads)
    with pytest.raises(OptionError, match="lin4"):
        LPIPS(trunk, {name: w for name, w in heads.items() if "lin4" not in name})


def test_says_where_its_weights_were_looked_for(tmp_path):
    with pytest.raises(OptionError, match=f"{TRUNK} is not in {tmp_path}"):
        load_lpips(tmp_path / TRUNK)


def test_reads_alexnet_from_a_file(tmp_path):
    """The heads are the published ones, which torchmetrics ships."""
    pytest.importorskip("torchmetrics")
    torch.save(weights()[0], tmp_path / TRUNK)
    pictures = torch.rand(1, 3, 64, 64)
    assert float(load_lpips(tmp_path / TRUNK)(pictures, 1 - pictures)) > 0
