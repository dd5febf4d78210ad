"""From a finished run to the folder that ships: half precision, and a model card that says how it was made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tocache.demo.names import demo_folder
from tocache.errors import OptionError
from tocache.models.architectures import pipeline_class, usual_video

LIMIT = 20 * 10**6
"""Bytes that a demo's folder may have at most."""

_TITLES = {
    "demo:text": "text to picture, PixArt-α's classes",
    "demo:class": "digit to picture, DiT's classes",
    "demo:video": "text to video, Open-Sora 1.2's transformer, autoencoder and scheduler",
}
_DATA = {
    "demo:text": "Scenes of the procedural world (`tocache.demo.world`), with captions that follow from them.",
    "demo:class": (
        "Handwritten digits of scikit-learn's bundled data set (E. Alpaydin and C. Kaynak, UCI Optical Recognition of "
        "Handwritten Digits, CC BY 4.0), coloured, moved and turned on procedural backgrounds (`tocache.demo.world`); "
        "every fifth digit is held out."
    ),
    "demo:video": "Clips of the procedural world (`tocache.demo.world`), with captions that follow from them.",
}
_GOALS = {
    "demo:text": ("all claims of a prompt", 0.90),
    "demo:class": ("right class", 0.97),
    "demo:video": ("shape, colour and direction", 0.85),
}


def ship(name: str, runs: Sequence[Path], figures: Path | None, notes: Sequence[str] = ()) -> Path:
    """Write the last run's pipeline, its card and its samples into the package.

    Args:
        name: `demo:text`, `demo:class` or `demo:video`.
        runs: folders of the runs that led to it, in order: the autoencoder's first.
        figures: what `python -m tocache.demo.measure` wrote of it; None while it is not yet measured.
        notes: what the commands alone do not say of the training, in sentences.

    Raises OptionError, and leaves what is there, where it all has more than `LIMIT` bytes.
    """
    folder = demo_folder(name)
    facts = [json.loads((run / "run.json").read_text()) for run in runs]
    measured = None if figures is None else json.loads(figures.read_text())
    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    pipe = _save_halved(runs[-1] / "export", new)
    shutil.copy(runs[-1] / "sample.png", new / "samples.png")
    (new / "README.md").write_text(model_card(name, pipe, facts, measured, notes))
    size = sum(file.stat().st_size for file in new.rglob("*") if file.is_file())
    if size > LIMIT:
        shutil.rmtree(new)
        raise OptionError(f"{name} of {runs[-1]} has {size:,} bytes; allowed: {LIMIT:,}")
    shutil.rmtree(folder, ignore_errors=True)
    new.replace(folder)
    return folder


def _save_halved(export: Path, folder: Path) -> Any:
    """Write the pipeline of `export` to `folder` in half precision, which `from_pretrained` widens again."""
    pipe = pipeline_class(export).from_pretrained(export)
    for component in pipe.components.values():
        if isinstance(component, nn.Module):
            nn.Module.to(component, torch.float16)
    names = json.loads((export / "model_index.json").read_text()).get("id2label")
    if names is not None:
        pipe.register_to_config(id2label=names)  # DiTPipeline forgets them when it is loaded
    pipe.save_pretrained(folder)
    for path in folder.rglob("*config.json"):
        _rewrite(path)
    _rewrite(folder / "model_index.json")
    return pipe


def _rewrite(path: Path) -> None:
    """Without the folder where the training was; and of a text encoder, with the dtype that stock loading is to give.

    diffusers loads in float32 unless told otherwise, transformers in what the config says: the two must agree.
    """
    config = json.loads(path.read_text())
    config.pop("_name_or_path", None)
    if "dtype" in config:
        config["dtype"] = "float32"
    path.write_text(json.dumps(config, indent=2) + "\n")


def model_card(
    name: str,
    pipe: Any,
    runs: Sequence[Mapping[str, Any]],
    figures: Mapping[str, Any] | None,
    notes: Sequence[str] = (),
) -> str:
    """The README of a demo's folder."""
    lines = [
        f"# {name}: {_TITLES[name]}",
        "",
        "A miniature that ships with tocache: small enough for a laptop, on the code path of the published models.",
        _form(pipe),
        "",
        "![samples](samples.png)",
        "",
        "## Quality",
        "",
        *_quality(name, figures),
        "",
        "## Training",
        "",
        _DATA[name],
        "",
        "| command | examples seen | minutes | on |",
        "|---|---|---|---|",
        *(
            f"| `{run['command']}` | {run['pictures seen']:,} | {run['minutes']:.0f} | {run['device']}, "
            f"torch {run['torch']} |"
            for run in runs
        ),
        "",
        *(line for note in notes for line in (note, "")),
        *_size_note(runs),
        "## Licence",
        "",
        "The weights are under the package's licence, Apache-2.0.",
        "",
    ]
    return "\n".join(lines)


def _form(pipe: Any) -> str:
    """Classes and sizes, in two sentences."""
    config, scheduler = pipe.transformer.config, pipe.scheduler
    side, video = 8 * config.sample_size, usual_video(pipe)
    patch, blocks, frames = config.patch_size, f"{config.num_layers} blocks", ""
    predicts = scheduler.config.get("prediction_type", "velocity of a rectified flow").replace("_", " ")
    tokens = (config.sample_size // (patch[-1] if video else patch)) ** 2
    if video:
        blocks = f"{config.num_layers} spatial and {config.num_layers} temporal blocks"
        frames = f"{config.sample_frames} frames of "
        tokens *= pipe.vae.latent_frames(config.sample_frames) // patch[0]
    return (
        f"`{type(pipe).__name__}` with `{type(pipe.transformer).__name__}`: {blocks}, "
        f"{config.num_attention_heads * config.attention_head_dim} wide, "
        f"{sum(p.numel() for p in pipe.transformer.parameters()) / 1e6:.1f} M parameters, {tokens} tokens, "
        f"{frames}{side} × {side} pixels. `{type(scheduler).__name__}`, {predicts}."
    )


def _quality(name: str, figures: Mapping[str, Any] | None) -> list[str]:
    if figures is None:
        return ["Not yet measured."]
    count = figures.get("prompts", figures.get("pictures"))
    shown = "clips" if name == "demo:video" else "pictures"
    key, goal = _GOALS[name]
    verdict = "reached" if figures[key] >= goal else "not reached"
    rows = [f"| {what} | {share:.1%} |" for what, share in figures.items() if isinstance(share, float)]
    return [
        f"Read by the judge (`tocache.demo.judge`) off {count} {shown} without a cache, at the pipeline's default "
        f"steps and guidance (`python -m tocache.demo.measure {name} --prompts {count}`):",
        "",
        "| | share |",
        "|---|---|",
        *rows,
        "",
        f"The goal, {goal:.0%} of “{key}”, is {verdict}.",
    ]


def _size_note(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    if not all("threads of" in run["device"] for run in runs):
        return []
    return [
        "This is the small one: it was trained on a CPU, as large and as long as some minutes of that allow, and is to "
        "be replaced by a longer training on a GPU.",
        "",
    ]
