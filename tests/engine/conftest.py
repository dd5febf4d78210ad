"""Bare transformers of a few thousand weights, their inputs by step, and a method whose table a test fills in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import diffusers
import numpy as np
import pytest
import torch

import tocache
from tocache.plan import ALL, Anatomy, Plan, Policy

TOKENS, TEXT = 16, 5


@dataclass(frozen=True)
class Tiny:
    """One family's transformer: how to build it, and what to call it with at each step."""

    family: str

    def build(self, seed: int = 0) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return getattr(self, f"_{self.family}")().eval().requires_grad_(False)

    def _dit(self) -> Any:
        return diffusers.DiTTransformer2DModel(
            num_attention_heads=2, attention_head_dim=8, num_layers=4, sample_size=8, num_embeds_ada_norm=10
        )

    def _pixart(self) -> Any:
        return diffusers.PixArtTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=4,
            sample_size=8,
            cross_attention_dim=16,
            caption_channels=12,
        )

    def _flux(self) -> Any:
        return diffusers.FluxTransformer2DModel(
            in_channels=16,
            num_layers=2,
            num_single_layers=3,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=12,
            pooled_projection_dim=10,
            axes_dims_rope=(2, 2, 4),
        )

    def inputs(self, step: int, rows: int = 2, who: int = 0) -> dict[str, Any]:
        """Keyword arguments of the forward at `step`; another `who` is another picture."""
        generator = torch.Generator().manual_seed(1000 * who + 7)
        drift = torch.Generator().manual_seed(1000 * who + 10 * step + 1)

        def random(*shape: int, per_step: float = 0.0) -> torch.Tensor:
            fixed = torch.randn(rows, *shape, generator=generator)
            return fixed + per_step * torch.randn(rows, *shape, generator=drift)

        time = torch.full((rows,), 900.0 - 50 * step)
        if self.family == "flux":
            side = torch.arange(4.0)
            ids = torch.stack(torch.meshgrid(torch.zeros(1), side, side, indexing="ij"), dim=-1).reshape(TOKENS, 3)
            return {
                "hidden_states": random(TOKENS, 16, per_step=0.3),
                "encoder_hidden_states": random(TEXT, 12),
                "pooled_projections": random(10),
                "timestep": time / 1000,
                "img_ids": ids,
                "txt_ids": torch.zeros(TEXT, 3),
                "return_dict": False,
            }
        latents = {"hidden_states": random(4, 8, 8, per_step=0.3), "return_dict": False}
        if self.family == "dit":
            return latents | {"timestep": time.long(), "class_labels": (torch.arange(rows) + who) % 10}
        return latents | {
            "timestep": time,
            "encoder_hidden_states": random(TEXT, 12),
            "encoder_attention_mask": torch.ones(rows, TEXT),
            "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
        }

    def forward(self, model: Any, step: int, rows: int = 2, who: int = 0) -> torch.Tensor:
        with torch.no_grad():
            output: torch.Tensor = model(**self.inputs(step, rows, who))[0]
        return output

    def run(self, model: Any, steps: int = 9, *, cfg: str | None = None, rows: int = 2) -> list[torch.Tensor]:
        """The outputs of a run opened by hand, one forward per step; fewer than 9 steps would be warned of."""
        outputs = []
        with tocache.run(model, timesteps=steps, cfg=cfg) as run:
            for step in range(steps):
                outputs.append(self.forward(model, step, rows))
                run.step()
        return outputs


@dataclass(frozen=True)
class Table(tocache.Method):
    """A plan filled in by hand: `fill(fresh, source, anatomy)` starts from a table that computes everything."""

    name: ClassVar[str] = "table"

    fill: Callable[[np.ndarray, np.ndarray, Anatomy], None]
    policy: Policy = field(default_factory=Policy)
    regions: tuple[tuple[str, int, int], ...] = ()

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        for region in self.regions:
            anatomies = [anatomy.with_region(*region) for anatomy in anatomies]
        fresh = np.full((steps, len(anatomies), len(anatomies[0].sites)), ALL, dtype=np.int32)
        source = np.full(fresh.shape[:2], -1, dtype=np.int8)
        self.fill(fresh, source, anatomies[0])
        return Plan(tuple(anatomies), fresh, self.policy, "by hand", source)


FAMILIES = ("dit", "pixart", "flux")


@pytest.fixture(params=FAMILIES)
def tiny(request: pytest.FixtureRequest) -> Tiny:
    """Every family in turn."""
    return Tiny(request.param)


@pytest.fixture(scope="session")
def tiny_of() -> Callable[[str], Tiny]:
    """One family by name."""
    return Tiny


@pytest.fixture(scope="session")
def table() -> type[Table]:
    """Table(fill, policy, regions): a method that runs the table which a test fills in."""
    return Table


@pytest.fixture(scope="session")
def by_kind() -> Callable[..., Callable[..., None]]:
    """by_kind(**amounts) fills every step but those `full` names: the sites of a kind get its amount."""

    def filler(full: Sequence[int] = (0, 3), **amounts: int) -> Callable[..., None]:
        def fill(fresh: np.ndarray, source: np.ndarray, anatomy: Anatomy) -> None:
            rest = [step for step in range(len(fresh)) if step not in full]
            for i, site in enumerate(anatomy.sites):
                for kind, amount in amounts.items():
                    if site.kind == kind.replace("_", "-"):
                        fresh[rest, :, i] = amount

        return fill

    return filler
