"""What of a forward depends on its time and its conditions alone, family by family: for `enable(modulate_ahead=True)`.

Here are the families whose blocks have a projection of their own for it, which is read in each step. PixArt, Open-Sora
and others share one among all blocks; what that costs is no more than one of DiT's 28.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tocache.engine.wiring import Conditioned
from tocache.models import dit, flux, sd3


def conditioned(family: str, transformer: Any) -> Conditioned | None:
    """Of a transformer of this family; None where there is nothing to compute ahead."""
    known = {"dit": _dit, "flux": _flux, "sd3": _sd3}
    return known[family](transformer) if family in known else None


def _dit(transformer: Any) -> Conditioned:
    """Each block has an embedding of its own; the output takes that of the first."""
    blocks = [f"{dit.STACK}.{b}.norm1" for b in range(len(transformer.transformer_blocks))]
    projections: dict[str, tuple[str, ...]] = {f"{norm}.emb": (f"{norm}.linear",) for norm in blocks}
    projections[f"{blocks[0]}.emb"] += ("proj_out_1",)

    def embed(module: Any, arguments: Mapping[str, Any], dtype: torch.dtype) -> torch.Tensor:
        embedded: torch.Tensor = module(arguments["timestep"], arguments["class_labels"], hidden_dtype=dtype)
        return embedded

    return Conditioned("timestep", ("class_labels",), projections, embed)


def _sd3(transformer: Any) -> Conditioned:
    norms = [f"{sd3.STACK}.{b}.{norm}" for b in range(len(transformer.transformer_blocks)) for norm in _BOTH]
    projections = {"time_text_embed": (*(f"{norm}.linear" for norm in norms), "norm_out.linear")}

    def embed(module: Any, arguments: Mapping[str, Any], dtype: torch.dtype) -> torch.Tensor:
        embedded: torch.Tensor = module(arguments["timestep"], arguments["pooled_projections"])
        return embedded

    return Conditioned("timestep", ("pooled_projections",), projections, embed)


def _flux(transformer: Any) -> Conditioned:
    """Its pipelines divide the time by 1000, and the model multiplies it again."""
    double, single = len(transformer.transformer_blocks), len(transformer.single_transformer_blocks)
    norms = [f"{flux.DOUBLE}.{b}.{norm}" for b in range(double) for norm in _BOTH]
    norms += [f"{flux.SINGLE}.{b}.norm" for b in range(single)]
    projections = {"time_text_embed": (*(f"{norm}.linear" for norm in norms), "norm_out.linear")}

    def embed(module: Any, arguments: Mapping[str, Any], dtype: torch.dtype) -> torch.Tensor:
        numbers = [arguments[name] for name in ("timestep", "guidance") if arguments[name] is not None]
        scaled = [number.to(dtype) * 1000 for number in numbers]
        embedded: torch.Tensor = module(*scaled, arguments["pooled_projections"])
        return embedded

    return Conditioned("timestep", ("guidance", "pooled_projections"), projections, embed, per=1000)


_BOTH = ("norm1", "norm1_context")
