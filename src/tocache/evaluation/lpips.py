"""LPIPS, where its weights are: AlexNet's, which torch's hub cache may hold, and the heads that torchmetrics ships.

Nothing is downloaded. The network is written down here because torchmetrics takes it from torchvision, which tocache
does not need for anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tocache.errors import OptionError
from tocache.machine import from_home

TRUNK = "alexnet-owt-7be5be79.pth"
"""File name of the published weights of AlexNet, in `torch.hub.get_dir()/checkpoints`."""

_TAPS = (1, 4, 7, 9, 11)  # the five ReLUs whose outputs are compared
_MEAN, _DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pictures in [−1, 1]


class LPIPS(nn.Module):
    """Learned perceptual distance of AlexNet's features (Zhang et al., arXiv 1801.03924, equation 1), version 0.1.

    trunk   AlexNet's `features.*` weights
    heads   `lin0.model.1.weight` … `lin4.model.1.weight`, (1, C, 1, 1) each

    Raises OptionError where a weight is missing or of another shape.
    """

    def __init__(self, trunk: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> None:
        super().__init__()
        relu = [nn.ReLU() for _ in _TAPS]  # not in place: what was tapped must stay
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 64, 11, stride=4, padding=2), relu[0], nn.MaxPool2d(3, stride=2)),
            *(nn.Conv2d(64, 192, 5, padding=2), relu[1], nn.MaxPool2d(3, stride=2)),
            *(nn.Conv2d(192, 384, 3, padding=1), relu[2]),
            *(nn.Conv2d(384, 256, 3, padding=1), relu[3]),
            *(nn.Conv2d(256, 256, 3, padding=1), relu[4]),
        )
        wanted = {name: trunk[name] for name in trunk if name.startswith("features.")}
        try:
            self.load_state_dict(wanted)
            weights = [heads[f"lin{i}.model.1.weight"] for i in range(len(_TAPS))]
        except (RuntimeError, KeyError) as error:
            raise OptionError(f"these are not the weights of LPIPS: {str(error).splitlines()[0]}") from error
        for i, weight in enumerate(weights):
            self.register_buffer(f"head{i}", weight)
        for name, numbers in (("mean", _MEAN), ("deviation", _DEVIATION)):
            self.register_buffer(name, torch.tensor(numbers)[:, None, None])
        self.eval().requires_grad_(False)

    def forward(self, pictures: Tensor, references: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] twice → (B,), 0 for equal ones."""
        total = torch.zeros(len(pictures))
        for i, (one, other) in enumerate(zip(self._tapped(pictures), self._tapped(references), strict=True)):
            apart = (F.normalize(one, dim=1, eps=1e-10) - F.normalize(other, dim=1, eps=1e-10)).square()
            total += F.conv2d(apart, self.get_buffer(f"head{i}")).mean(dim=(1, 2, 3))
        return total

    def _tapped(self, pictures: Tensor) -> list[Tensor]:
        x = (2 * pictures.float() - 1 - self.get_buffer("mean")) / self.get_buffer("deviation")
        tapped = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in _TAPS:
                tapped.append(x)
        return tapped


def load_lpips(trunk: Path | None = None) -> LPIPS:
    """LPIPS with the published weights, on the CPU; `trunk` is AlexNet's file where it is not in torch's hub cache.

    Raises OptionError that says which weights are missing, and where they were looked for.
    """
    from importlib.util import find_spec

    file = Path(torch.hub.get_dir()) / "checkpoints" / TRUNK if trunk is None else trunk
    package = find_spec("torchmetrics")
    if package is None or package.origin is None:
        raise OptionError("LPIPS needs torchmetrics, which has its heads: pip install 'tocache[bench]'")
    heads = Path(package.origin).parent / "functional" / "image" / "lpips_models" / "alex.pth"
    for missing in (file, heads):
        if not missing.is_file():
            raise OptionError(f"LPIPS has no weights here: {missing.name} is not in {from_home(str(missing.parent))}")
    return LPIPS(*(torch.load(path, map_location="cpu", weights_only=True) for path in (file, heads)))
