"""The app in a real browser: drawing, controls, stopping, and what it keeps to itself."""

from __future__ import annotations

import gc
import socket
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tocache.errors import OptionError, UnknownNameError
from tocache.webapp import Shown, Studio, Wish, served
from tocache.webapp.show import progress_html
from tocache.webapp.studio import chosen

MODEL = "demo:random-text"
ATTACK = """<img src=x onerror="document.title='owned'"></script><script>document.title='owned'</script>${1}"""
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def test_both_runs_are_told_step_by_step() -> None:
    studio = Studio((MODEL,), device="cpu")
    states = list(studio.draw(Wish(MODEL, "a red circle", interval=3, steps=9), threading.Event()))
    assert states[0] == Shown()
    last = states[-1]
    assert last.done
    assert last.error == ""
    assert last.kinds["without cache"] == ("full",) * 9
    assert last.report is not None
    assert last.report.plan is not None
    assert list(last.kinds["with cache"]) == [last.report.plan.kind_of_step(step) for step in range(9)]
    assert last.uncached
    assert last.cached
    assert studio.plan(Wish(MODEL, "", steps=9)).steps == 9


def test_a_run_that_nobody_waits_for_stops_and_frees_the_device() -> None:
    studio = Studio((MODEL,), device="cpu")
    running = studio.draw(Wish(MODEL, "a red circle", steps=250), threading.Event())
    for shown in running:
        if shown.kinds:
            break
    running.close()  # type: ignore[attr-defined]
    assert studio.running == 0
    assert sum(map(len, shown.kinds.values())) < 250
    assert not studio.pipeline(MODEL).transformer._forward_hooks


def test_a_second_run_waits_for_the_first() -> None:
    studio = Studio((MODEL,), device="cpu")
    most = []

    def draw() -> None:
        for _ in studio.draw(Wish(MODEL, "sea", steps=9), threading.Event()):
            most.append(studio.running)

    threads = [threading.Thread(target=draw) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1


def test_what_cannot_be_is_said() -> None:
    studio = Studio((MODEL,), device="cpu")
    assert list(studio.draw(Wish("/etc", "sea"), threading.Event()))[-1].error.startswith("unknown model '/etc'")
    assert "steps=0" in list(studio.draw(Wish(MODEL, "sea", steps=0), threading.Event()))[-1].error
    with pytest.raises(UnknownNameError):
        chosen(Wish(MODEL, "sea", method="tocca"))
    with pytest.raises(OptionError, match="models"):
        Studio(())
    assert "<b>" not in progress_html(Shown(error="<b>"))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Studio, Path]]:
    pytest.importorskip("gradio", exc_type=ImportError)
    folder = tmp_path_factory.mktemp("app")
    with served((MODEL,), port=None, device="cpu", folder=folder) as (url, studio):
        yield url, studio, folder
    with warnings.catch_warnings():  # sockets that Gradio leaves to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def page(app: tuple[str, Studio, Path], browser: Any) -> Iterator[Any]:
    """The app, opened; afterwards there must have been no error, and no request to anywhere else."""
    said, asked = [], []
    opened = browser.new_page(viewport={"width": 1280, "height": 1000})
    opened.set_default_timeout(90_000)
    opened.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(app[0])
    opened.locator("#plan svg").first.wait_for()
    yield opened
    opened.close()
    assert said == []
    assert [url for url in asked if not url.startswith((app[0], "data:", "blob:"))] == []


def set_steps(page: Any, steps: int) -> None:
    number = page.get_by_label("number input for Steps")
    number.fill(str(steps))
    number.press("Tab")


def draw(page: Any) -> tuple[str, str]:
    """Presses the button, and waits for both pictures, which must be other ones than before.

    A state that passes, such as pictures taken away, may come and go between two looks: a new picture stays.
    """
    shown = page.locator("#with-cache img")
    before = shown.get_attribute("src") if shown.count() else ""
    page.get_by_role("button", name="Draw both").click()
    page.locator(f'#with-cache img:not([src="{before}"])').wait_for()
    page.locator("#progress", has_text="done").wait_for()
    page.locator("#figures table").wait_for()
    return tuple(page.locator(f"#{side}-cache img").get_attribute("src") for side in ("without", "with"))


def test_draw_move_a_control_and_draw_again(page: Any, app: tuple[str, Studio, Path]) -> None:
    set_steps(page, 9)
    first = draw(page)
    assert all(source.startswith(app[0]) for source in first)
    assert "9/9: 9 full" in page.locator("#progress").text_content()
    plan = page.locator("#plan svg image").first.get_attribute("href")
    interval = page.get_by_label("number input for Interval")
    interval.fill("5")
    interval.press("Tab")
    page.locator("#plan code", has_text="interval=5").wait_for()
    assert page.locator("#plan svg image").first.get_attribute("href") != plan
    again = draw(page)
    assert again[1] != first[1]
    assert "× fewer" in page.locator("#figures").text_content()


def test_prompts_are_text(page: Any) -> None:
    set_steps(page, 9)
    page.get_by_label("Prompt or class").fill(ATTACK)
    draw(page)
    assert page.title() == "tocache"


def test_a_closed_tab_frees_its_run(app: tuple[str, Studio, Path], browser: Any) -> None:
    url, studio, _ = app
    slow = studio.pipeline(MODEL).transformer.register_forward_pre_hook(lambda *_: time.sleep(0.2))
    page = browser.new_page()
    page.goto(url)
    page.locator("#plan svg").first.wait_for(timeout=90_000)
    set_steps(page, 250)  # of which both runs would take 100 seconds
    page.get_by_role("button", name="Draw both").click()
    page.locator("#progress i.full").first.wait_for(timeout=90_000)
    assert studio.running == 1
    page.close(run_before_unload=True)
    end = time.monotonic() + 30
    while studio.running and time.monotonic() < end:
        time.sleep(0.1)
    slow.remove()
    assert studio.running == 0


def test_files_outside_of_its_folder_are_refused(app: tuple[str, Studio, Path]) -> None:
    for path in ("/etc/passwd", str(Path(__file__)), str(app[2].parent)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{app[0]}gradio_api/file={path}")
        assert refused.value.code in (403, 404)


def test_it_listens_on_this_machine_alone(app: tuple[str, Studio, Path]) -> None:
    assert app[0].startswith("http://127.0.0.1:")
    port = int(app[0].rstrip("/").rpartition(":")[2])
    with socket.socket() as other:  # the same port on another address is still free
        other.bind(("127.0.0.2", port))
