"""The page in a real browser, from a file, with nothing but what is in it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tocache.errors import OptionError
from tocache.plan import load_plan
from tocache.reporting import Comparison, compare, write_report

ATTACKS = (
    """<img src=x onerror="document.title='owned'">""",
    """</script><script>document.title='owned'</script> & <b>bold</b> "'`${1}""",
)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare("demo:random-text", methods="toca,fora", prompts=ATTACKS, steps=9, device="cpu")


@pytest.fixture(scope="module")
def page_file(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(comparison, tmp_path_factory.mktemp("report"))[0]


@pytest.fixture
def visit(browser: Any) -> Iterator[Open]:
    """Opens a page in a context of its own; afterwards there must have been no message, error or request."""
    contexts, said, asked = [], [], []

    def go(path: Path, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": 1200, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield go
    for context in contexts:
        context.close()
    assert said == []
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
    assert len([url for url in asked if url.startswith("file:")]) == len(contexts)


def pixels_of(page: Any, picture: str) -> np.ndarray:
    """What an <img> of the page holds, (height, width, 3), as the browser decoded it."""
    values, width, height = page.evaluate(
        """async (selector) => {
            const image = document.querySelector(selector);
            await image.decode();
            const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
            return [new Uint8Array(pixels.data.buffer).toBase64(), canvas.width, canvas.height];
        }""",
        picture,
    )
    return np.frombuffer(base64.b64decode(values), np.uint8).reshape(height, width, 4)[..., :3]


def canvas_of(page: Any, name: str) -> np.ndarray:
    """The colours of a canvas, (height, width, 3)."""
    values, width, height = page.evaluate(
        """(name) => {
            const canvas = document.getElementById(name);
            const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return [new Uint8Array(pixels.data.buffer).toBase64(), canvas.width, canvas.height];
        }""",
        name,
    )
    return np.frombuffer(base64.b64decode(values), np.uint8).reshape(height, width, 4)[..., :3]


def move(page: Any, name: str, value: int) -> None:
    page.locator(f"#{name}").fill(str(value))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_accessible_in_both_schemes(visit: Open, page_file: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = visit(page_file, color_scheme=scheme)
    page.locator("summary").first.click()
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) > 3 * 128) == (scheme == "light")


def test_the_scheme_can_be_changed(visit: Open, page_file: Path) -> None:
    page = visit(page_file, color_scheme="light")
    page.get_by_role("button", name="Dark page").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    assert page.get_by_role("button", name="Light page").is_visible()


def test_prompts_are_text(visit: Open, page_file: Path) -> None:
    page = visit(page_file)
    page.locator("#prompt").select_option("1")
    assert page.locator("#prompt-text").text_content() == ATTACKS[1]
    rows = page.locator(".pictures tbody th")
    assert [rows.nth(i).evaluate("e => e.firstChild.data") for i in range(2)] == list(ATTACKS)
    assert page.locator("#p0c1").get_attribute("alt") == f"toca: {ATTACKS[0]}"
    assert page.title() == "demo:random-text: 2 methods compared by tocache"
    assert page.locator("b").count() == 0


def test_no_other_script_could_run(browser: Any, page_file: Path, tmp_path: Path) -> None:
    """What would happen if a text were not escaped: the page's policy stops it."""
    broken = tmp_path / "broken.html"
    html = page_file.read_text("utf-8").replace("<main>", f"<main>{ATTACKS[0]}{ATTACKS[1]}")
    broken.write_text(html, encoding="utf-8")
    page = browser.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(broken.as_uri())
    assert page.title() == "demo:random-text: 2 methods compared by tocache"
    page.close()
    assert len(refused) >= 2
    assert all("Content Security Policy" in text for text in refused)


def test_pictures_are_those_that_were_drawn(visit: Open, page_file: Path, comparison: Comparison) -> None:
    page = visit(page_file)
    for prompt in range(2):
        for number, column in enumerate(comparison.columns):
            drawn = np.asarray(column.drawn[prompt].frames[0].convert("RGB"))
            assert (pixels_of(page, f"#p{prompt}c{number}") == drawn).all()
    page.locator("#prompt").select_option("1")
    page.locator("#right").select_option("2")
    assert (pixels_of(page, "#right-picture") == np.asarray(comparison.columns[2].drawn[1].frames[0])).all()
    assert (pixels_of(page, "#left-picture") == np.asarray(comparison.columns[0].drawn[1].frames[0])).all()
    assert "dB" in page.locator("#right-caption").text_content()


def test_the_border_moves_by_keyboard_and_by_pointer(visit: Open, page_file: Path) -> None:
    page = visit(page_file)
    clip = "getComputedStyle(document.getElementById('layer-right')).clipPath"
    assert page.evaluate(clip) == "inset(0px 0px 0px 50%)"
    page.locator("#split").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert page.evaluate(clip) == "inset(0px 0px 0px 55%)"
    assert page.locator("#split").get_attribute("aria-valuetext") == "55% left, 45% right"
    box = page.locator("#stage").bounding_box()
    page.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + 10)
    assert 17 <= int(page.locator("#split").input_value()) <= 23


def test_views_beside_the_slider(visit: Open, page_file: Path) -> None:
    page = visit(page_file)
    page.get_by_role("radio", name="Side by side").check()
    boxes = [page.locator(f"#layer-{side}").bounding_box() for side in ("left", "right")]
    assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]
    assert not page.locator("#split").is_visible()
    page.get_by_role("radio", name="Difference").check()
    brightest = []
    for column in ("1", "0"):
        page.locator("#right").select_option(column)
        right, left = (pixels_of(page, f"#{side}-picture") for side in ("right", "left"))
        assert (right == left).all() == (column == "0")
        shown = np.asarray(Image.open(io.BytesIO(page.locator("#stage").screenshot())).convert("RGB"))
        brightest.append(int(shown[10:-10, 10:-10].max()))
    assert brightest[0] > 60
    assert brightest[1] <= 12  # nothing differs from itself but by rounding where both are scaled, times 4


def test_maps_show_where_tokens_were_computed(visit: Open, page_file: Path, comparison: Comparison) -> None:
    page = visit(page_file)
    assert not page.locator("#right-map").is_visible()
    page.locator("#show-map").check()
    move(page, "step", 2)
    page.locator("#step-text", has_text="Step 1").wait_for()
    assert "Right: partial" in page.locator("#step-text").text_content()
    assert page.locator("#right-map").is_visible()
    assert not page.locator("#left-map").is_visible()  # without a cache there is nothing to tell
    fresh = comparison.columns[1].drawn[0].fresh
    assert fresh is not None
    colours, share = canvas_of(page, "right-map"), fresh[1]
    assert colours.shape == (*share.shape, 3)
    assert {tuple(c) for c in colours[share == share.max()]} == {(253, 231, 37)}  # viridis from end to end
    assert {tuple(c) for c in colours[share == share.min()]} == {(68, 1, 84)}
    assert page.locator("#scale-high").text_content() == f"{100 * share.max():.0f}%"
    marks = page.locator(".plan .now")
    assert {marks.nth(i).get_attribute("visibility") for i in range(marks.count())} == {"visible"}


def test_a_picture_of_the_table_goes_to_the_viewer(visit: Open, page_file: Path) -> None:
    page = visit(page_file, reduced_motion="reduce")
    page.locator("#p1c2").click()
    assert page.locator("#prompt").input_value() == "1"
    assert page.locator("#right").input_value() == "2"


def test_without_scripts_pictures_figures_and_plans_are_there(visit: Open, page_file: Path) -> None:
    page = visit(page_file, java_script_enabled=False)
    assert not page.locator("#viewer").is_visible()
    assert page.locator(".notice").is_visible()
    assert page.locator(".cell img").count() == 6
    assert page.locator(".plan svg[role=img]").count() == 2


def test_narrow_screens_need_no_sideways_scrolling(visit: Open, page_file: Path) -> None:
    page = visit(page_file)
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.slow
def test_videos_move_together(visit: Open, videos: Comparison, tmp_path: Path) -> None:
    page = visit(write_report(videos, tmp_path)[0])
    move(page, "frame", 5)
    for side, column in zip(("left", "right"), videos.columns, strict=True):
        shown = pixels_of(page, f"#{side}-picture").astype(int)
        off = [np.abs(shown - np.asarray(frame.convert("RGB"))).mean() for frame in column.drawn[0].frames]
        # large frames are not kept to the pixel, and these are nearly noise: the right one is the closest by far
        assert np.argmin(off) == 5
        assert off[5] < 0.5 * min(off[:5] + off[6:])
    assert page.locator("#frame-text").text_content() == f"6 of {len(videos.columns[0].drawn[0].frames)}"
    page.get_by_role("button", name="Play").click()
    for _ in range(100):  # the page's policy refuses wait_for_function, which evaluates text
        if page.locator("#frame").input_value() != "5":
            break
        page.wait_for_timeout(50)
    else:
        pytest.fail("the clips do not move")
    page.get_by_role("button", name="Pause").click()
    stopped = page.locator("#frame").input_value()
    page.wait_for_timeout(150)
    assert page.locator("#frame").input_value() == stopped


def test_beside_the_page_are_figures_and_plans_that_run(comparison: Comparison, tmp_path: Path) -> None:
    written = write_report(comparison, tmp_path / "new" / "report")
    assert [path.relative_to(tmp_path / "new" / "report").as_posix() for path in written] == [
        "index.html",
        "figures.json",
        "plans/1.json",
        "plans/2.json",
    ]
    figures = json.loads(written[1].read_text("utf-8"))
    assert figures["methods"][1]["report"]["method"].startswith("ToCa(")
    assert figures["methods"][1]["metrics"]["psnr"]["mean"] == comparison.columns[1].figure("psnr")["mean"]  # type: ignore[index]
    assert [prompt["prompt"] for prompt in figures["prompts"]] == list(ATTACKS)
    assert comparison.columns[1].plan is not None
    assert (load_plan(written[2]).fresh == comparison.columns[1].plan.fresh).all()


def test_an_interrupted_comparison_says_so(comparison: Comparison, tmp_path: Path) -> None:
    page = write_report(replace(comparison, interrupted=True), tmp_path)[0].read_text("utf-8")
    assert "was interrupted" in page


def test_a_place_that_cannot_be_written_is_named(comparison: Comparison, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="file"):
        write_report(comparison, tmp_path / "file" / "report")
