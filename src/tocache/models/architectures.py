"""Models by name: known architectures without weights, which is enough to plan, and whole pipelines to draw with."""

from __future__ import annotations

import inspect
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tocache.errors import OptionError, UnknownNameError, UnsupportedModelError, nearest
from tocache.models.known import PICTURES
from tocache.models.known_videos import VIDEOS
from tocache.models.registry import FAMILIES

ORIGINALS = (".pt", ".pth", ".ckpt", ".safetensors")  # how checkpoints in their authors' layout are called
CONFIG = "transformer/config.json"  # where a pipeline in diffusers' format describes its transformer


@dataclass(frozen=True)
class Architecture:
    """A published model: the class and configuration of its transformer."""

    name: str
    family: str
    transformer: str  # its class, diffusers' or ours
    config: Mapping[str, Any] = field(repr=False)
    hub: str  # where its weights are


# 28 blocks of 16 heads × 72 channels; 8 channels out: noise and a learned variance
_XL_2: dict[str, Any] = {
    "num_layers": 28,
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "in_channels": 4,
    "out_channels": 8,
    "patch_size": 2,
}
_PIXART_XL_2 = _XL_2 | {"cross_attention_dim": 1152, "caption_channels": 4096}


def _known() -> dict[str, Architecture]:
    known = [
        Architecture(
            f"dit-xl-2-{pixels}",
            "dit",
            "DiTTransformer2DModel",
            _XL_2 | {"sample_size": pixels // 8},
            hub=f"facebook/DiT-XL-2-{pixels}",
        )
        for pixels in (256, 512)
    ]
    known += [
        # a sample_size of 128 also brings the micro-conditions on resolution and aspect ratio
        Architecture(
            f"pixart-xl-2-{pixels}",
            "pixart",
            "PixArtTransformer2DModel",
            _PIXART_XL_2 | {"sample_size": pixels // 8},
            hub=f"PixArt-alpha/PixArt-XL-2-{'1024-MS' if pixels == 1024 else f'{pixels}x{pixels}'}",
        )
        for pixels in (256, 512, 1024)
    ]
    flux = {"guidance_embeds": True}
    known.append(
        Architecture("flux-dev-1024", "flux", "FluxTransformer2DModel", flux, hub="black-forest-labs/FLUX.1-dev")
    )
    known.append(
        Architecture(
            "opensora-1.2-480p-2s", "opensora", "STDiT3Transformer3DModel", {}, hub="hpcai-tech/OpenSora-STDiT-v3"
        )
    )
    known += [Architecture(*row) for row in (*PICTURES, *VIDEOS)]
    return {architecture.name: architecture for architecture in known}


ARCHITECTURES: dict[str, Architecture] = _known()


def build_meta(name: str) -> Any:
    """The transformer of a known architecture on the meta device: modules and sizes, no weights.

    Raises UnknownNameError, which lists the known names, and UnsupportedModelError where diffusers is too old for it.
    """
    if name not in ARCHITECTURES:
        raise UnknownNameError.of("architecture", name, ARCHITECTURES)
    architecture = ARCHITECTURES[name]
    return build_from_config({"_class_name": architecture.transformer, **architecture.config})


def build_from_config(config: Mapping[str, Any]) -> Any:
    """The transformer that a diffusers configuration describes, on the meta device.

    Raises UnsupportedModelError where no family serves its `_class_name`, OptionError where there is none.
    """
    name = config.get("_class_name")
    if not isinstance(name, str):
        raise OptionError("this configuration names no '_class_name': it is not one of a diffusers model")
    supported = sorted(cls for family in FAMILIES.values() for cls in family.classes)
    if name not in supported:
        raise UnsupportedModelError(f"no model family serves {name}; supported: {', '.join(supported)}")
    import torch

    made = _class_named(name)
    try:
        with torch.device("meta"):
            return made.from_config(dict(config))
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise OptionError(f"no {name} can be built from this configuration: {one_line(error)}") from error


def _class_named(name: str) -> Any:
    """A transformer's class: diffusers' or, where it has none, ours. Raises UnsupportedModelError where neither has."""
    import diffusers

    from tocache import opensora

    found = getattr(diffusers, name, None) or getattr(opensora, name, None)
    if found is None:
        raise UnsupportedModelError(f"diffusers {diffusers.__version__} has no {name}; a newer one has")
    return found


def is_here(name: str) -> bool:
    """Whether there is a transformer's class of this name: older versions of diffusers lack some."""
    try:
        return _class_named(name) is not None
    except UnsupportedModelError:
        return False


def meta_transformer(model: str | Path) -> Any:
    """The transformer of a known architecture, a folder in diffusers' format or a model on the Hugging Face hub.

    Nothing but its configuration is read; it is built on the meta device.

    Raises UnknownNameError for what is neither, OptionError where there is no readable configuration, and
    UnsupportedModelError where no family serves its class.
    """
    if str(model) in ARCHITECTURES:
        return build_meta(str(model))
    return build_from_config(_read(config_file(model)))


def pretrained_pipeline(model: str | Path, dtype: Any) -> Any:
    """The pipeline of a folder in diffusers' format or of a hub id, which is downloaded; `dtype` is torch's.

    Raises OptionError where it cannot be loaded, and UnknownNameError for what is neither.
    """
    name = str(model)
    if name in ARCHITECTURES:
        raise OptionError(
            f"model {name!r} is an architecture without weights; the hub has them as {ARCHITECTURES[name].hub!r}"
        )
    if name.endswith(ORIGINALS):
        raise OptionError(
            f"{name}: an original checkpoint holds the transformer alone, and a pipeline also needs a VAE, a scheduler "
            "and for prompts a text encoder; load such a pipeline in Python and set pipe.transformer = "
            "tocache.models.originals.load_original(path)"
        )
    if not Path(model).is_dir() and not is_hub_id(model):
        raise UnknownNameError(f"unknown model {name!r} (no folder here, and not of the form of a hub id)")
    try:
        with warnings.catch_warnings():
            # the new name of this argument is unknown to the oldest supported version
            warnings.filterwarnings("ignore", "`torch_dtype` is deprecated", FutureWarning)
            return pipeline_class(model).from_pretrained(model, torch_dtype=dtype)
    except (OSError, ValueError, ImportError, AttributeError, TypeError) as error:
        raise OptionError(f"{name}: cannot be loaded: {one_line(error)}") from error


def pipeline_class(model: str | Path) -> Any:
    """What loads a folder in diffusers' format: diffusers, or for a pipeline that it lacks our class."""
    from diffusers import DiffusionPipeline

    from tocache import opensora

    index = Path(model) / "model_index.json"
    name = _read(index).get("_class_name") if index.is_file() else None
    return getattr(opensora, name) if isinstance(name, str) and name in opensora.__all__ else DiffusionPipeline


def call_arguments(
    pipe: Any,
    prompt: str | int,
    *,
    steps: int | None,
    guidance: float | None,
    size: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """What a pipeline is called with, besides the seed; None leaves a value to the pipeline.

    Raises UnknownNameError for a class that does not exist, UnsupportedModelError for pipelines of other kinds, and
    OptionError where `size` names something that this pipeline is not asked for.
    """
    known = inspect.signature(type(pipe).__call__).parameters
    sizes = {name: value for name, value in (size or {}).items() if value is not None}
    for name in sizes:
        if name not in known:
            raise OptionError(f"{type(pipe).__name__} is not asked for a {name}: that is for pipelines of videos")
    given = {"num_inference_steps": steps, "guidance_scale": guidance}
    arguments: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    arguments |= usual_video(pipe, named=bool(sizes.keys() & {"resolution", "aspect_ratio"})) | sizes
    if "class_labels" in known:
        return arguments | {"class_labels": [class_number(pipe, prompt)]}
    if "prompt" not in known:
        raise UnsupportedModelError(f"{type(pipe).__name__} takes neither a prompt nor a class")
    if "clean_caption" in known and not _cleans(pipe):
        arguments["clean_caption"] = False
    return arguments | {"prompt": str(prompt)}


def _cleans(pipe: Any) -> bool:
    """Whether a pipeline is left to clean its prompts; a TocacheWarning says where it would have to and cannot."""
    if getattr(pipe, "plain_captions", False):  # a demo's: there is nothing to clean
        return False
    from tocache.opensora import OpenSoraPipeline
    from tocache.opensora.text import can_clean

    # ours warns by itself; diffusers' would log four lines in every call
    return isinstance(pipe, OpenSoraPipeline) or can_clean()


def usual_video(pipe: Any, *, named: bool = False) -> dict[str, Any]:
    """The call's arguments for a video as the pipeline's transformer was trained on, where it says: a miniature's does.

    `named` leaves out height and width: the call names a resolution.
    """
    config = getattr(getattr(pipe, "transformer", None), "config", None)
    if getattr(config, "sample_frames", None) is None or not hasattr(pipe, "vae_scale_factor"):
        return {}
    assert config is not None
    side = config.sample_size * pipe.vae_scale_factor
    sides = {} if named else {"height": side, "width": side}
    return {**sides, "num_frames": config.sample_frames, "fps": config.sample_fps}


def class_number(pipe: Any, name: str | int) -> int:
    """The number of a class of a class-conditional pipeline, by name or number. Raises UnknownNameError."""
    labels: dict[str, int] = getattr(pipe, "labels", None) or {}
    classes = pipe.transformer.config.num_embeds_ada_norm
    if str(name) in labels:
        return int(pipe.get_label_ids([str(name)])[0])
    if str(name).isdecimal() and int(name) < classes:
        return int(name)
    near = nearest(str(name), labels)
    names = ", ".join(sorted(labels)) if len(labels) <= 12 else f"the {len(labels)} names of its classes"
    raise UnknownNameError(f"unknown class {name!r}{near}; known: 0 … {classes - 1}{', ' if names else ''}{names}")


def config_file(model: str | Path) -> Path:
    """The configuration of the transformer of a folder or of a hub id, which is downloaded. Raises as above."""
    folder = Path(model)
    if folder.is_dir():
        # a transformer's own folder will do as well
        for file in (folder / CONFIG, folder / "config.json"):
            if file.is_file():
                return file
        raise OptionError(f"{model}: no {CONFIG} in this folder, so it is no pipeline in diffusers' format")
    if not is_hub_id(model):
        hint = nearest(str(model), ARCHITECTURES)
        raise UnknownNameError(
            f"unknown model {str(model)!r}{hint} {KINDS_OF_MODEL}; known: {', '.join(ARCHITECTURES)}"
        )
    return _download(str(model))


def is_hub_id(model: str | Path) -> bool:
    """Whether `model` has the form of a hub id: an owner and a name."""
    return isinstance(model, str) and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model) is not None


KINDS_OF_MODEL = "(neither a known name nor a folder, and not of the form of a hub id)"


def one_line(error: BaseException) -> str:
    """What an error of another library says, shortened to one line; its class where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 200 else text[:199] + "…"


def _download(model: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(model, CONFIG))
    except (OSError, ValueError) as error:
        raise OptionError(f"{model}: no such folder here, and not readable from the hub: {one_line(error)}") from error


def _read(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(f"{file}: not a configuration: {one_line(error)}") from error
    if not isinstance(config, dict):
        raise OptionError(f"{file}: not a configuration: expected an object")
    return config
