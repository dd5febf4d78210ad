"""Inception through torch-fidelity: with random weights, since nothing is downloaded in tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tocache.errors import OptionError
from tocache.evaluation.sets.inception import WEIGHTS, load_inception


@pytest.fixture(scope="module")
def network() -> Any:
    """torch-fidelity's class, built around the random weights that it makes itself before it loads any."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision of another torch
        pytest.skip(f"torch-fidelity cannot be imported: {error}")

    class Plain(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, *_arguments: Any, **_options: Any) -> None:
            pass

    return Plain


def test_features_are_those_of_torch_fidelity_and_the_seven_channels_of_adm(network: Any, tmp_path: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.save({}, tmp_path / "none.pth")
    torch.manual_seed(0)
    made = network("inception", ["2048", "logits_unbiased"], str(tmp_path / "none.pth"))
    torch.save(made.state_dict(), tmp_path / WEIGHTS)
    extractor = load_inception(torch.device("cpu"), weights=tmp_path / WEIGHTS)
    pictures = torch.randint(0, 256, (2, 3, 40, 40), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    found = extractor.extract(pictures / 255)

    own = FeatureExtractorInceptionV3("own", ["2048", "logits_unbiased"], str(tmp_path / WEIGHTS))
    layers: list[torch.Tensor] = []
    own.Mixed_6d.branch1x1.register_forward_hook(lambda _module, _inputs, output: layers.append(output.clone()))
    pool, logits = own(pictures)
    torch.testing.assert_close(found["pool"], pool)
    torch.testing.assert_close(found["logits"], logits)
    assert found["spatial"].shape == (2, 17 * 17 * 7)
    torch.testing.assert_close(found["spatial"].reshape(2, 17, 17, 7)[1, 3, 5], layers[0][1, :7, 3, 5])


def test_missing_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(OptionError, match=r"tocache\[evaluate\]|--fetch downloads it"):
        load_inception(torch.device("cpu"))
