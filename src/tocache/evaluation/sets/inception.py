"""Inception v3 as FID is defined on it, from torch-fidelity, where its weights are.

torch-fidelity's is a port of the network of the published FID, which ADM's evaluator runs in TensorFlow: pictures are
scaled to 299 × 299 as TensorFlow 1 does. ADM's `spatial` features are the first 7 channels of `mixed_6/conv`, 17 × 17
places each; here that layer is called `Mixed_6d.branch1x1`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tocache.errors import OptionError
from tocache.evaluation.sets.extractors import INCEPTION, LOGITS, POOL, SPATIAL, Extractor

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
"""File name of torch-fidelity's weights, in `torch.hub.get_dir()/checkpoints`."""

SOURCE = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/" + WEIGHTS

_CHANNELS = 7  # of the spatial features


def load_inception(device: torch.device, *, fetch: bool = False, weights: Path | None = None) -> Extractor:
    """The extractor; `weights` is torch-fidelity's file where it is not in torch's hub cache.

    Raises OptionError that says what is missing and where it is looked for; `fetch` lets torch-fidelity download it.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision built for another torch
        raise OptionError(
            f"Inception needs torch-fidelity: pip install 'tocache[evaluate]' ({str(error).splitlines()[0]})"
        ) from error
    file = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS if weights is None else weights
    if not file.is_file() and not fetch:
        raise OptionError(
            f"Inception has no weights here: {file.name} is not in {file.parent}; --fetch downloads it from {SOURCE}"
        )
    try:
        network = FeatureExtractorInceptionV3(
            INCEPTION, ["2048", "logits_unbiased"], str(file) if file.is_file() else None, verbose=False
        )
    except (OSError, RuntimeError) as error:
        raise OptionError(f"Inception's weights cannot be loaded: {str(error).splitlines()[0]}") from error
    return inception_extractor(network, device)


def inception_extractor(network: Any, device: torch.device) -> Extractor:
    """The extractor of a torch-fidelity Inception that gives `2048` and `logits_unbiased`."""
    network = network.to(device).eval()
    tapped: list[Tensor] = []
    network.Mixed_6d.branch1x1.register_forward_hook(lambda _module, _inputs, output: tapped.append(output))

    @torch.inference_mode()
    def extract(pictures: Tensor) -> Mapping[str, Tensor]:
        tapped.clear()
        pool, logits = network((pictures.to(device) * 255).round().to(torch.uint8))
        # (B, 192, 17, 17) -> (B, 17, 17, 7) -> (B, 2023), channels last as in ADM's files
        spatial = tapped.pop()[:, :_CHANNELS].movedim(1, -1).flatten(1).float()
        return {POOL: pool, SPATIAL: spatial, LOGITS: logits}

    return Extractor(INCEPTION, extract, WEIGHTS.removesuffix(".pth"))
