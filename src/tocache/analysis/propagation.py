"""What the same noise does on one token or another (what ToCa, arXiv 2410.05317, shows in its figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tocache.analysis.files import write_arrays
from tocache.analysis.forwards import Forward, answer_of, length
from tocache.analysis.places import Indices, Lattice, lattice, sites_of, spaced, text_before
from tocache.analysis.subject import Subject
from tocache.errors import OptionError
from tocache.methods import Uncached
from tocache.plan.anatomy import Site
from tocache.planning import check_count

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Propagation:
    """The error of the model's answer when one token of one layer has noise on it.

    steps     the steps looked at
    sites     the layers, in running order
    tokens    (tokens,) which of the image's tokens got noise
    shape     how they lie: (height, width), with frames before where it is a video
    error     (steps, sites, tokens) ‖answer with − without‖ ÷ ‖answer without‖, the mean over pictures and passes
    own       (steps, sites, tokens) share of that error, squared, that lies at the token's own place of the answer; NaN
              where the answer's places are not those of the tokens
    pictures  (B, 3, H, W) what was drawn; of videos the middle frame
    """

    about: dict[str, Any]
    steps: tuple[int, ...]
    sites: tuple[Site, ...]
    tokens: Indices
    shape: tuple[int, ...]
    error: Floats
    own: Floats
    pictures: NDArray[np.float32]

    @property
    def ratio(self) -> Floats:
        """(steps, sites) the largest error of a token ÷ the smallest."""
        ratio: Floats = self.error.max(axis=2) / np.maximum(self.error.min(axis=2), 1e-30)
        return ratio

    def save(self, path: Path) -> None:
        """Writes the arrays as npz: steps, sites (names), kinds, blocks, tokens, shape, error, own.

        Raises OptionError where that fails.
        """
        arrays = {
            "steps": np.array(self.steps),
            "sites": np.array([site.name for site in self.sites]),
            "kinds": np.array([site.kind for site in self.sites]),
            "blocks": np.array([site.block for site in self.sites]),
            "tokens": self.tokens,
            "shape": np.array(self.shape),
            "error": self.error.astype(np.float32),
            "own": self.own.astype(np.float32),
        }
        write_arrays(path, arrays, self.about)

    def draw(self, path: Path) -> None:
        """Writes the picture. Raises OptionError without matplotlib, or where it cannot be written."""
        from tocache.analysis.pictures.propagation import draw_propagation

        draw_propagation(self, path)


def propagation(
    subject: Subject,
    *,
    kinds: Sequence[str] | None = None,
    steps: int = 3,
    tokens: int = 64,
    strength: float = 0.5,
    seed: int = 0,
) -> Propagation:
    """Puts the same noise on one token after the other and makes the forward again from there.

    kinds     of the layers that get noise; None: MLPs, and single-stream blocks
    steps     in how many steps, at even distances
    tokens    on how many tokens of the image at most, at even distances on the grid
    strength  length of the noise ÷ mean length of the layer's tokens
    seed      of the noise, which is one direction for all tokens of a layer

    Raises OptionError for numbers below 1, a strength that is not above 0, and kinds that the model does not have.
    """
    for name, value in (("steps", steps), ("tokens", tokens)):
        check_count(name, value)
    check_strength(strength)
    found: dict[tuple[int, int, int], tuple[Floats, Floats]] = {}  # (step, pass, site) → error, own: (tokens,)
    noisy: tuple[str, int] | None = None  # site and token of the layer, now
    noise: dict[str, Tensor] = {}
    where = Lattice(np.zeros(0, dtype=np.int64), ())

    def disturb(step: int, number: int, site: str, value: Tensor) -> Tensor | None:
        if noisy is None or site != noisy[0]:
            return None
        if site not in noise:
            noise[site] = _noise(value, strength, seed)
        other = value.clone()
        other[:, noisy[1]] += noise[site]
        return other

    def measure(forward: Forward) -> Any:
        nonlocal noisy, where
        chosen = spaced(forward.steps, steps)
        if forward.step not in chosen:
            return forward.make()
        anatomy = forward.plan.anatomies[forward.number]
        members = sites_of(anatomy, kinds)
        where = lattice(anatomy.shape.tokens["image"], anatomy.shape.grid, tokens)
        output = forward.make()
        answer = answer_of(output, forward, subject.guidance)
        size = length(answer)
        noise.clear()
        for number, i in enumerate(members):
            site = anatomy.sites[i]
            subject.tell(f"noise, step {forward.step}", number, len(members))
            before = text_before(anatomy, site)
            errors, owns = [], []
            for token in where.index:
                noisy = (site.name, before + int(token))
                moved = answer_of(forward.make_from(site), forward, subject.guidance) - answer
                errors.append(float((length(moved) / size).mean()))
                owns.append(own_share(moved, anatomy.shape.grid, int(token)))
            noisy = None
            found[forward.step, forward.number, i] = np.array(errors), np.array(owns)
        return output

    drawn = subject.draw(Uncached(), on_output=disturb, on_forward=measure)
    subject.tell("done", 1, 1)
    at = tuple(spaced(drawn.plan.steps, steps))
    members = sites_of(drawn.plan.anatomies[0], kinds)
    error, own = (
        np.array(
            [[np.mean([v[part] for k, v in found.items() if k[::2] == (s, i)], axis=0) for i in members] for s in at]
        )
        for part in (0, 1)
    )
    about = subject.about(drawn, "propagation") | {"strength": strength, "noise_seed": seed}
    sites = tuple(drawn.plan.sites[i] for i in members)
    return Propagation(about, at, sites, where.index, where.shape, error, own, middle_frames(drawn.pictures))


def own_share(moved: Tensor, grid: Sequence[int] | None, token: int) -> float:
    """The share of ‖`moved`‖² that lies at the place of `token`, the mean over pictures; NaN where places have no name.

    `moved` (pictures, …) is the change of an answer: of tokens (B, N, C), or of latents, (B, C, H, W) or
    (B, C, T, H, W), whose sides are multiples of the grid's.
    """
    energy = moved.square()
    if energy.dim() == 3:  # (B, N, C)
        places = energy.sum(dim=2)
    elif grid is not None and energy.dim() == len(grid) + 2:
        sides = energy.shape[2:]
        if any(side % count for side, count in zip(sides, grid, strict=True)):
            return float("nan")
        patch = [side // count for side, count in zip(sides, grid, strict=True)]
        pool = F.avg_pool2d if len(grid) == 2 else F.avg_pool3d
        places = pool(energy.sum(dim=1, keepdim=True), patch).flatten(1)  # (B, N), in row-major order
    else:
        return float("nan")
    total = places.sum(dim=1).clamp_min(1e-30)
    return float((places[:, token] / total).mean()) if token < places.shape[1] else float("nan")


def middle_frames(pictures: Tensor) -> NDArray[np.float32]:
    """(B, 3, H, W) pictures themselves, and of videos the frame in the middle."""
    still = pictures[:, pictures.shape[1] // 2] if pictures.dim() == 5 else pictures
    drawn: NDArray[np.float32] = still.numpy()
    return drawn


def check_strength(strength: float) -> None:
    """Raises OptionError where `strength` is no number above 0."""
    if not 0 < strength < float("inf"):
        raise OptionError(f"strength={strength!r} is not allowed; allowed: a number above 0")


def _noise(value: Tensor, strength: float, seed: int) -> Tensor:
    """(width,) a direction drawn from `seed`, `strength` times as long as the tokens of `value` are on average."""
    direction = torch.randn(value.shape[-1], generator=torch.Generator().manual_seed(seed))
    direction = direction / torch.linalg.vector_norm(direction)
    size = strength * torch.linalg.vector_norm(value.float(), dim=-1).mean()
    noise: Tensor = (direction.to(value.device) * size).to(value.dtype)
    return noise
