"""A plan as HTML: what it says in words, and what its cells show."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from tocache.methods import FORA, TaylorSeer, ToCa, Uncached
from tocache.plan import ALL
from tocache.planning import plan_model
from tocache.reporting.encode import FULL
from tocache.reporting.heat import plan_html


def cells(html: str) -> list[np.ndarray]:
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))
        for body in re.findall(r"data:image/png;base64,([^\"]+)", html)
    ]


def test_cells_are_the_plan() -> None:
    plan = plan_model("dit-xl-2-256", ToCa(3, 0.07), steps=50)
    html = str(plan_html(plan))
    attention, mlp = cells(html)
    assert attention.shape == mlp.shape == (28, 50, 4)
    rows = [i for i, site in enumerate(plan.sites) if site.kind == "mlp"]
    full = plan.amounts[:, 0, rows].T == ALL  # (28, 50)
    assert ((mlp[..., :3] == FULL).all(axis=-1) == full).all()
    assert ((mlp[..., 3] > 0) == (plan.amounts[:, 0, rows].T != 0)).all()


@pytest.mark.parametrize(
    ("method", "words"),
    [(FORA(3), "reuse steps"), (ToCa(3, 0.1), "partial"), (Uncached(), "12 full steps, 1.00 times fewer FLOPs")],
)
def test_the_picture_is_said_in_words(method: object, words: str) -> None:
    html = str(plan_html(plan_model("demo:random-class", method, steps=12)))  # type: ignore[arg-type]
    (label,) = re.findall(r'role="img" aria-label="([^"]+)"', html)
    assert words in label
    assert ("some, up to" in html) == isinstance(method, ToCa)


def test_the_table_has_a_line_for_every_stretch_of_equal_steps() -> None:
    plan = plan_model("demo:random-class", FORA(4), steps=12)
    html = str(plan_html(plan))
    lines = re.findall(r'<tr><th scope="row">([^<]+)</th><td>([^<]+)</td>', html)
    kinds = [plan.kind_of_step(step) for step in range(12)]
    told: list[str] = []
    for steps, kind in lines:
        first, _, last = steps.partition("–")
        told += [kind] * (int(last or first) - int(first) + 1)
    assert told == kinds
    assert len(lines) < 12


def test_regions_have_a_panel_of_their_own() -> None:
    html = str(plan_html(plan_model("dit-xl-2-256", TaylorSeer(where="stack"), steps=20)))
    assert "region" in html


def test_models_of_two_stacks_name_them() -> None:
    html = str(plan_html(plan_model("flux-dev-1024", ToCa(4, 0.1), steps=12)))
    assert "single_transformer_blocks" in html
    assert len(cells(html)) == html.count('class="panel-title"')
