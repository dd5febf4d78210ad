"""Which tokens a method computed: in each step and layer, over the image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocache.analysis.files import write_arrays
from tocache.analysis.places import text_before
from tocache.analysis.subject import Drawn, Subject
from tocache.errors import RunError
from tocache.generation.runs import makes_videos
from tocache.methods import Method, ToCa
from tocache.plan import ALL
from tocache.plan.anatomy import Site
from tocache.reports import computed_table


@dataclass(frozen=True)
class Selection:
    """Which of the image's tokens were fresh.

    sites     those that can compute single tokens, in running order
    fresh     (steps, sites, tokens) share of the rows and passes in which a token was computed: uint8, of 255
    computed  (steps, sites) how many of a row's tokens the site computed, −1 for all: the first pass
    grid      how the tokens lie: (height, width), with frames before where it is a video
    pictures  (B, 3, H, W), videos (B, F, 3, H, W): what was drawn, of which `fresh` is the mean
    """

    about: dict[str, Any]
    sites: tuple[Site, ...]
    fresh: NDArray[np.uint8]
    computed: NDArray[np.int32]
    grid: tuple[int, ...]
    pictures: NDArray[np.float32]

    @property
    def partial_steps(self) -> list[int]:
        """The steps in which some tokens were chosen."""
        return [step for step, amounts in enumerate(self.computed) if (amounts > 0).any()]

    @property
    def chosen(self) -> NDArray[np.float64]:
        """(tokens,) in what share of the choices each token was among those chosen."""
        choices = self.computed > 0
        share = self.fresh[choices].astype(np.float64) / 255 if choices.any() else np.zeros((1, self.fresh.shape[2]))
        mean: NDArray[np.float64] = share.mean(axis=0)
        return mean

    def save(self, path: Path) -> None:
        """Writes the arrays as npz: sites (names), kinds, blocks, grid, fresh, computed.

        Raises OptionError where that fails.
        """
        arrays = {
            "sites": np.array([site.name for site in self.sites]),
            "kinds": np.array([site.kind for site in self.sites]),
            "blocks": np.array([site.block for site in self.sites]),
            "grid": np.array(self.grid),
            "fresh": self.fresh,
            "computed": self.computed,
        }
        write_arrays(path, arrays, self.about)

    def draw(self, path: Path) -> None:
        """Writes the picture, or of a video an animation (.gif, .webp). Raises OptionError where it cannot."""
        from tocache.analysis.pictures.selection import draw_selection

        draw_selection(self, path)


def selection(subject: Subject, method: Method | None = None) -> Selection:
    """Draws the first of the subject's pictures with `method` and notes every choice.

    method   None is the one published for the model, `ToCa()`

    Raises RunError where the method chooses no tokens, or the model's image tokens lie on no grid.
    """
    subject.tell("with the cache", 0, 1)
    one = subject.first()
    drawn = one.draw(ToCa() if method is None else method)
    shape = drawn.plan.anatomies[0].shape
    if shape.grid is None:
        raise RunError(f"the image tokens of {drawn.plan.anatomies[0].model} lie on no grid")
    members = [i for i, site in enumerate(drawn.plan.sites) if site.rows and site.group != "text"]
    fresh, computed = _fresh(drawn, members)
    if not (computed > 0).any():
        raise RunError(f"{drawn.plan.method} computes all tokens of a layer or none: there is no choice to show")
    subject.tell("done", 1, 1)
    about = one.about(drawn, "selection") | {"method": drawn.plan.method}
    about["video"] = makes_videos(subject.pipe)
    sites = tuple(drawn.plan.sites[i] for i in members)
    pictures: NDArray[np.float32] = drawn.pictures.numpy()
    return Selection(about, sites, fresh, computed, tuple(shape.grid), pictures)


def _fresh(drawn: Drawn, members: list[int]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """`Selection.fresh` and `Selection.computed`."""
    plan, choices = drawn.plan, drawn.choices.choices
    amounts = computed_table(drawn.choices.record, plan)
    fresh = np.zeros((plan.steps, len(members), plan.anatomies[0].shape.tokens["image"]), dtype=np.uint8)
    for step in range(plan.steps):
        for k, i in enumerate(members):
            site, share = plan.sites[i], np.zeros(fresh.shape[2])
            for number, anatomy in enumerate(plan.anatomies):
                if amounts[step, number, i] == ALL:
                    share += 1
                elif amounts[step, number, i] > 0:
                    index = choices[step, number, site.name]
                    counts = np.bincount(index.numpy().ravel(), minlength=anatomy.tokens(site))
                    before = text_before(anatomy, site)
                    share += counts[before : before + len(share)] / len(index)
            fresh[step, k] = np.rint(255 * share / plan.passes)
    return fresh, amounts[:, 0, members]
