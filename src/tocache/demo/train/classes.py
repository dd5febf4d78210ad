"""`demo:class`: DiT's transformer, trained on handwritten digits by class."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel
from torch import Tensor, nn

from tocache.demo.train.latent_task import LatentTask, Size, towards_noise
from tocache.demo.train.pictures import save_grid
from tocache.demo.world.digits import CLASSES, draw_digit, render_digits

_NULL = 1000  # DiTPipeline's unconditional class
_DROPPED = 0.1  # share of labels that are left out, for guidance


def new_scheduler() -> DDIMScheduler:
    """Velocities (Salimans & Ho 2022) on the squared cosine, whose last step is noise alone.

    The published model predicts noise on a linear schedule. A velocity that is a little wrong leaves the latents
    bounded, which a small model needs; the cache sees the same transformer.
    """
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )


class ClassTask(LatentTask):
    """Velocities at uniform times."""

    name = "class"

    def new_model(self, size: Size, start: Path | None, words: Path | None) -> nn.Module:
        self.transformer = new_transformer(size)
        if start is not None:
            trained = DiTTransformer2DModel.from_pretrained(start / "transformer")
            self.transformer.load_state_dict(trained.state_dict())
        self.scheduler = new_scheduler()
        model: nn.Module = self.transformer
        return model

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        source, chosen = self.batch_of(step, generator)
        dropped = torch.rand(len(chosen), generator=generator) < _DROPPED
        labels = torch.where(dropped, _NULL, source.labels[chosen].long()).to(self.device)
        clean = source.latents[chosen].float().to(self.device)
        times = torch.randint(0, self.scheduler.config.num_train_timesteps, (len(chosen),), generator=generator)
        last = self.scheduler.config.num_train_timesteps - 1
        times = (last * towards_noise(times / last, self.shift)).round().long().to(self.device)
        noise = torch.randn(clean.shape, generator=generator).to(self.device)
        noisy = self.scheduler.add_noise(clean, noise, times)
        target = self.scheduler.get_velocity(clean, noise, times)
        velocity = self.transformer(noisy, timestep=times, class_labels=labels, return_dict=False)[0]
        return F.mse_loss(velocity.float(), target), {}

    def sample(self, folder: Path) -> str:
        generator = torch.Generator(self.device).manual_seed(0)
        latents = torch.randn(len(CLASSES), 4, self.side // 8, self.side // 8, generator=generator, device=self.device)
        labels = torch.arange(len(CLASSES), device=self.device)
        pictures = sample_latents(self.transformer, self.scheduler, latents, labels)
        save_grid(self.vae.decode(pictures).sample.clamp(-1, 1), folder / "sample.png", columns=5, side=224)
        return f"drawn: {folder / 'sample.png'}"

    def export(self, folder: Path) -> None:
        """The labels that no digit has get the unconditional one's embedding: they draw any digit."""
        for block in self.transformer.transformer_blocks:
            table = block.norm1.emb.class_embedder.embedding_table.weight.data
            table[len(CLASSES) : _NULL] = table[_NULL]
        super().export(folder)

    def pipeline(self) -> DiTPipeline:
        names = {int(name): name for name in CLASSES}
        pipe = DiTPipeline(transformer=self.transformer.eval(), vae=self.vae, scheduler=self.scheduler, id2label=names)
        # What DiTPipeline itself does not do: without it the names would be lost in saving.
        pipe.register_to_config(id2label=names)
        return pipe

    def pictures(self, side: int, first: int, number: int) -> tuple[Tensor, Tensor]:
        digits = [draw_digit(self.seed, first + i) for i in range(number)]
        labels = torch.tensor([digit.label for digit in digits], dtype=torch.uint8)
        return 2 * render_digits(digits, side, device=self.device) - 1, labels


def new_transformer(size: Size) -> DiTTransformer2DModel:
    """An untrained transformer; labels are dropped by the task, which says when, and not by the model in training."""
    model = DiTTransformer2DModel(
        num_attention_heads=size.heads,
        attention_head_dim=size.width // size.heads,
        in_channels=4,
        out_channels=4,
        num_layers=size.depth,
        num_embeds_ada_norm=_NULL,
        sample_size=32,
        patch_size=2,
    )
    nn.init.zeros_(model.proj_out_2.weight)
    for block in model.transformer_blocks:
        block.norm1.emb.class_embedder.dropout_prob = 0.0
        nn.init.zeros_(block.norm1.linear.weight)  # adaLN-Zero (DiT, §3.2): a block begins as the identity
        nn.init.zeros_(block.norm1.linear.bias)
        nn.init.normal_(block.norm1.emb.class_embedder.embedding_table.weight, std=0.02)
    return model


@torch.inference_mode()
def sample_latents(
    transformer: DiTTransformer2DModel,
    scheduler: DDIMScheduler,
    latents: Tensor,
    labels: Tensor,
    *,
    steps: int = 50,
    guidance: float = 4.0,
) -> Tensor:
    """What DiTPipeline does between its noise and its decoder, at any size of `latents` (B, C, H, W)."""
    scheduler.set_timesteps(steps)
    both = torch.cat([labels, torch.full_like(labels, _NULL)])
    for time in scheduler.timesteps:
        times = time.expand(len(both)).to(latents.device)
        velocity = transformer(torch.cat([latents, latents]), timestep=times, class_labels=both, return_dict=False)[0]
        conditional, free = velocity.chunk(2)
        latents = scheduler.step(free + guidance * (conditional - free), time, latents, return_dict=False)[0]
    return latents
