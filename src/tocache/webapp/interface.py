"""The app's controls and pictures, in Gradio."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from tocache.errors import TocacheError
from tocache.generation.media import save_frames
from tocache.generation.result import Frames
from tocache.webapp.show import figures_html, plan_or_error, progress_html
from tocache.webapp.studio import METHODS_SHOWN, MOST_LETTERS, MOST_STEPS, Shown, Studio, Wish, options_of

PROMPTS = {"demo:text": "a red circle above a blue square", "demo:class": "7"}
_LABELS = ("Without cache", "With cache")


class Interface:
    """One app: its controls, and what their changes do.

    folder   takes the clips that are shown, and nothing else does
    """

    def __init__(self, studio: Studio, folder: Path) -> None:
        self.studio, self.folder = studio, folder
        self._stops: dict[str, threading.Event] = {}  # by session
        self._lock = threading.Lock()

    def blocks(self) -> gr.Blocks:
        """The page. One run at a time; everybody else waits in the queue."""
        first = self.studio.models[0]
        with gr.Blocks(title="tocache", analytics_enabled=False, delete_cache=(600, 3600), fill_width=True) as blocks:
            gr.HTML("<h1>tocache</h1><p>The same noise, without and with a cache of the transformer's features.</p>")
            with gr.Row():
                with gr.Column(scale=1, min_width=300):
                    prompt = gr.Textbox(
                        PROMPTS.get(first, ""), label="Prompt or class", lines=2, max_length=MOST_LETTERS
                    )
                    model = gr.Dropdown(list(self.studio.models), value=first, label="Model")
                    method = gr.Dropdown(list(METHODS_SHOWN), value="toca", label="Method")
                    interval = gr.Slider(
                        1, 20, 3, step=1, label="Interval", info="Steps from one full step to the next"
                    )
                    ratio = gr.Slider(
                        0.0, 1.0, 0.3, step=0.01, label="Fresh ratio", info="Tokens computed in the steps between"
                    )
                    steps = gr.Slider(2, MOST_STEPS, 20, step=1, label="Steps")
                    guidance = gr.Number(0, label="Guidance", info="0: the model's own", minimum=0)
                    seed = gr.Number(0, label="Seed", precision=0, minimum=0)
                    with gr.Row():
                        go = gr.Button("Draw both", variant="primary")
                        halt = gr.Button("Stop")
                with gr.Column(scale=3):
                    with gr.Row():
                        pictures = [
                            gr.Image(
                                label=label,
                                format="png",
                                type="pil",
                                interactive=False,
                                buttons=["download", "fullscreen"],
                                elem_id=label.lower().replace(" ", "-"),
                                alt_text=f"The picture {label.lower()}",
                                height=420,
                            )
                            for label in _LABELS
                        ]
                    progress = gr.HTML(progress_html(Shown()), elem_id="progress")
                    figures = gr.HTML("", elem_id="figures")
                    plan = gr.HTML("", elem_id="plan")
            controls = [prompt, model, method, interval, ratio, steps, guidance, seed]
            hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
            drawing = gr.on(
                [go.click, prompt.submit],
                self.draw,
                controls,
                [*pictures, progress, figures, plan],
                concurrency_limit=1,
                concurrency_id="device",
                trigger_mode="once",
                **hidden,
            )
            halt.click(self.stop, None, progress, cancels=[drawing], queue=False, **hidden)
            method.change(self.fit_controls, method, [interval, ratio], queue=False, **hidden)
            gr.on(
                [blocks.load, *(one.change for one in (model, method, interval, ratio, steps, guidance))],
                self.preview,
                controls,
                plan,
                concurrency_limit=1,
                concurrency_id="plans",
                trigger_mode="always_last",
                **hidden,
            )
            blocks.unload(self.leave)
        return blocks

    def draw(self, request: gr.Request, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Both runs; each state goes to the browser as far as it has changed."""
        stop = threading.Event()
        with self._lock:
            self._stops[str(request.session_hash)] = stop
        left = right = gr.skip()
        before = Shown()
        # pictures of the run before would be taken for those of this one
        yield None, None, progress_html(before), "", gr.skip()
        try:
            wish = _wish(values)
        except (TypeError, ValueError) as error:
            yield None, None, progress_html(Shown(error=str(error))), "", gr.skip()
            return
        for shown in self.studio.draw(wish, stop):
            left = self._picture(shown.uncached, shown.fps) if shown.uncached != before.uncached else gr.skip()
            right = self._picture(shown.cached, shown.fps) if shown.cached != before.cached else gr.skip()
            plan = gr.skip()
            if shown.done and shown.report is not None and shown.report.plan is not None:
                plan = plan_or_error(shown.report.plan)
            yield left, right, progress_html(shown), figures_html(shown), plan
            before = shown

    def preview(self, *values: Any) -> str:
        """The plan of what the controls say, or why there is none."""
        try:
            return plan_or_error(self.studio.plan(_wish(values)))
        except (TocacheError, TypeError, ValueError) as error:
            return plan_or_error(str(error))

    def fit_controls(self, method: str) -> list[dict[str, Any]]:
        """Shows the controls that a method has."""
        there = options_of(method)
        return [gr.update(visible=name in there) for name in ("interval", "fresh_ratio")]

    def stop(self, request: gr.Request) -> str:
        """Stops the run of this session at its next step."""
        self.leave(request)
        return progress_html(Shown(error="stopped"))

    def leave(self, request: gr.Request) -> None:
        """A closed tab waits for nothing any more."""
        with self._lock:
            stop = self._stops.pop(str(request.session_hash), None)
        if stop is not None:
            stop.set()

    def _picture(self, frames: Frames, fps: float) -> Any:
        """A picture as it is; a clip as the file that a browser plays."""
        if not frames:
            return None
        if len(frames) == 1:
            return frames[0]
        target = self.folder / f"{uuid.uuid4().hex}.webp"
        save_frames(frames, target, fps)
        return str(target)


def _wish(values: tuple[Any, ...]) -> Wish:
    """What the controls say, in their order. Raises ValueError and TypeError for what is no number."""
    prompt, model, method, interval, ratio, steps, guidance, seed = values
    return Wish(
        model=str(model),
        prompt=str(prompt).strip(),
        method=str(method),
        interval=int(interval),
        fresh_ratio=float(ratio),
        steps=int(steps),
        guidance=float(guidance) if guidance else None,
        seed=int(seed or 0),
    )
