"""Each family's sampling loop around a bare transformer, as its golden runs were made."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .cases import Golden, GoldenError, draws, unknown
from .samplers import Ancestral, Multistep, guided
from .weights import fill

# order of the halves in a batch
CFG = {"dit": "cond,uncond", "pixart": "uncond,cond", "flux": None, "opensora": "cond,uncond"}
_OPENSORA_TEXT = 11  # tokens of text in the single forwards; the files do not say it, it is that of their run

Model = Callable[..., tuple[Tensor]]  # a transformer, called with return_dict=False


def timesteps(golden: Golden) -> list[float]:
    """What the model is given as its timestep, step after step."""
    meta = golden.required()
    if golden.family == "dit":
        return [float(t) for t in golden.arrays["timestep_map"][::-1]]
    if golden.family == "pixart":
        solver = Multistep(meta["steps"])
        return [float(solver.timestep(i)) for i in range(meta["steps"])]
    times = [float(t) for t in golden.arrays["timesteps"]]
    return times if golden.family == "opensora" else times[:-1]  # FLUX's hold the last time, 0, too


def sample(golden: Golden, model: Model, after_step: Callable[[], object] = lambda: None) -> Tensor:
    """The final latent, in the golden's shape; `after_step` is called once the model's part of a step is done."""
    loops = {"dit": _sample_dit, "pixart": _sample_pixart, "flux": _sample_flux, "opensora": _sample_opensora}
    with torch.no_grad():
        return loops[golden.family](golden, model, after_step)


def forwards(golden: Golden, build: Callable[[int | None], Model]) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(name, our output, recorded output) of every single forward in the file; `build` makes the model for a size."""
    outputs = [name for name in golden.arrays if name.startswith("out_")]
    if not outputs:
        raise GoldenError("it holds no out_… arrays")
    models: dict[str, Model] = {}
    for name in outputs:
        parts = re.fullmatch(r"out_(?:(S(\d+)|\d+x\d+)_)?t([\d.]+)", name)
        if parts is None:
            unknown("array", name, "out_S<size>_t<time>, out_<rows>x<columns>_t<time>, out_t<time>")
        size, side, time = parts.groups()
        if size not in models:
            models[size] = build(int(side) if side else None)
        recorded = golden.tensor(name)
        with torch.no_grad():
            yield name, _forward(golden, models[size], size, float(time), recorded.shape), recorded


def _sample_dit(golden: Golden, model: Model, after_step: Callable[[], object]) -> Tensor:
    meta = golden.required()
    sampler, steps = str(meta["sampler"]), meta["steps"]
    kind = next((kind for kind in ("ddim", "ddpm") if sampler.startswith(kind)), None)
    if kind is None:
        unknown("sampler", sampler, "ddim(eta=0), ddpm(learned range)")
    noise, labels = golden.tensor("noise"), golden.tensor("labels")
    labels = torch.cat([labels, torch.full_like(labels, meta["null_label"])])
    timestep_map = golden.arrays["timestep_map"].tolist()
    diffusion = Ancestral(timestep_map)
    x = torch.cat([noise, noise])
    fresh = draws(str(meta["ddpm_noise_rule"]), (steps, *x.shape)) if kind == "ddpm" else None
    for i in reversed(range(steps)):
        # both halves are denoised from the first half's latent; only their channels without guidance differ
        half, _ = x.chunk(2)
        times = torch.full((len(x),), timestep_map[i])
        output = model(torch.cat([half, half]), timestep=times, class_labels=labels, return_dict=False)[0]
        after_step()
        predicted, blend = _guided_dit(output, x.shape[1], meta["cfg_scale"])
        if fresh is None:
            x = diffusion.ddim(x, predicted, i)
        else:
            x = diffusion.ddpm(x, predicted, blend, i, fresh[steps - 1 - i])
    return x.chunk(2)[0]


def _guided_dit(output: Tensor, channels: int, scale: float) -> tuple[Tensor, Tensor]:
    """Noise and variance blend (B, C, H, W) each; DiT guides the first three channels only."""
    cond, uncond = output[:, :3].chunk(2)
    both = guided(cond, uncond, scale)
    output = torch.cat([torch.cat([both, both]), output[:, 3:]], dim=1)
    return output[:, :channels], output[:, channels:]


def _sample_pixart(golden: Golden, model: Model, after_step: Callable[[], object]) -> Tensor:
    meta = golden.required()
    if not str(meta["sampler"]).startswith("DPM-Solver++"):
        unknown("sampler", meta["sampler"], "DPM-Solver++ order2 multistep time_uniform")
    solver = Multistep(meta["steps"])
    text = _pixart_text(golden, golden.tensor("caption"), golden.tensor("mask"))
    x = golden.tensor("noise")
    for i in range(meta["steps"]):
        times = solver.timestep(i).expand(2 * len(x))
        output = model(torch.cat([x, x]), timestep=times, return_dict=False, **text)[0]
        after_step()
        uncond, cond = output[:, : x.shape[1]].chunk(2)  # the other channels are the variance, unused here
        x = solver.step(x, guided(cond, uncond, meta["cfg_scale"]), i)
    return x


def _pixart_text(golden: Golden, caption: Tensor, mask: Tensor) -> dict[str, Any]:
    """The text of the two halves [uncond, cond]; the null caption is cut to the prompt's length, as in the original."""
    name = "y_embedder.y_embedding"
    null = fill(name, golden.spec["shapes"][name], golden.spec["overrides"])
    text = torch.cat([null.expand(len(caption), -1, -1), caption.squeeze(1)])
    return {"encoder_hidden_states": text, "encoder_attention_mask": mask.repeat(2, 1)}


def _sample_flux(golden: Golden, model: Model, after_step: Callable[[], object]) -> Tensor:
    meta = golden.required()
    inputs = _flux_inputs(golden, "in_", meta["guidance"])
    x = inputs.pop("hidden_states")
    for now, after in pairwise(golden.arrays["timesteps"].tolist()):
        velocity = model(x, timestep=torch.full((len(x),), now), return_dict=False, **inputs)[0]
        after_step()
        x = x + (after - now) * velocity
    return x


def _sample_opensora(golden: Golden, model: Model, after_step: Callable[[], object]) -> Tensor:
    meta = golden.required()
    if not str(meta["sampler"]).startswith("rflow"):
        unknown("sampler", meta["sampler"], "rflow, use_timestep_transform")
    x, caption = golden.tensor("noise"), golden.tensor("caption").squeeze(1)
    name = "y_embedder.y_embedding"
    null = fill(name, golden.spec["shapes"][name], golden.spec["overrides"])
    lengths = golden.tensor("caption_len")[:, None]
    mask = (torch.arange(caption.shape[1]) < lengths).int().repeat(2, 1)  # the null caption takes the prompt's length
    text = {
        "encoder_hidden_states": torch.cat([caption, null.expand_as(caption)]),
        "encoder_attention_mask": mask,
        **_opensora_size(golden),
    }
    for now, after in pairwise([*golden.arrays["timesteps"].tolist(), 0.0]):
        times = torch.full((2 * len(x),), now)
        output = model(torch.cat([x, x]), timestep=times, return_dict=False, **text)[0]
        after_step()
        cond, uncond = output[:, : x.shape[1]].chunk(2)  # the other channels are unused
        x = x + (now - after) / 1000 * guided(cond, uncond, meta["cfg_scale"])
    return x


def _opensora_size(golden: Golden) -> dict[str, float]:
    info = (golden.meta or next(iter(golden.spec["runs"].values())))["info"]
    return {name: float(info[name]) for name in ("height", "width", "fps")}


def _flux_inputs(golden: Golden, prefix: str, guidance: float) -> dict[str, Tensor]:
    image, text = golden.tensor(f"{prefix}img"), golden.tensor(f"{prefix}txt")
    return {
        "hidden_states": image,
        "encoder_hidden_states": text,
        "pooled_projections": golden.tensor(f"{prefix}vec"),
        "img_ids": golden.tensor(f"{prefix}img_ids")[0],
        "txt_ids": golden.tensor(f"{prefix}txt_ids")[0],
        "guidance": torch.full((len(image),), float(guidance)),
    }


def _forward(golden: Golden, model: Model, size: str, time: float, shape: torch.Size) -> Tensor:
    if golden.family == "flux":
        inputs = _flux_inputs(golden, f"in_{size}_", golden.arrays["guidance"].item())
        return model(timestep=torch.full((len(inputs["hidden_states"]),), time), return_dict=False, **inputs)[0]
    x = draws(str(golden.arrays["x_rule"]), (shape[0], golden.config["in_channels"], *shape[2:]))
    y = golden.tensor("y")
    if golden.family == "dit":
        return model(x, timestep=torch.full((len(x),), int(time)), class_labels=y, return_dict=False)[0]
    times = torch.full((len(x),), time)
    if golden.family == "opensora":
        mask = (torch.arange(y.shape[-2]) < _OPENSORA_TEXT).expand(len(y), -1)
        text = {"encoder_hidden_states": y, "encoder_attention_mask": mask, **_opensora_size(golden)}
        return model(x, timestep=times, return_dict=False, **text)[0]
    text = {"encoder_hidden_states": y.squeeze(1), "encoder_attention_mask": golden.tensor("mask")}
    return model(x, timestep=times, return_dict=False, **text)[0]


def relative_error(ours: Tensor, recorded: Tensor) -> float:
    """The largest difference, relative to the largest absolute value recorded."""
    if ours.shape != recorded.shape:
        raise GoldenError(f"the output has shape {tuple(ours.shape)}; recorded: {tuple(recorded.shape)}")
    return float(np.abs((ours - recorded).numpy()).max() / np.abs(recorded.numpy()).max())
