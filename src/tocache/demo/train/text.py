"""`demo:text`: PixArt-α's transformer and a small T5, trained together on captions of the world."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel
from torch import Tensor, nn
from transformers import T5EncoderModel

from tocache.demo.train.latent_task import LatentTask, Size, flow_loss, towards_noise
from tocache.demo.train.pictures import save_grid
from tocache.demo.train.text_encoder import load_words, new_text_encoder, new_tokenizer
from tocache.demo.world.render import label_map, render
from tocache.demo.world.scene import COLOURS, SHAPES, Scene, draw_scene

_DROPPED = 0.1  # share of captions that are left out, for guidance
_SHIFT = 3.0  # of the times, both where it learns and where it draws: what goes where is decided while most is noise
_TEXT_WIDTH = 128
_SAMPLES = (
    "a red circle above a blue square",
    "a large yellow star",
    "a green ring on the left",
    "a small white cross and a black triangle",
    "an orange square to the right of a purple circle",
    "a blue star, a red ring and a yellow cross",
    "a black circle at the top",
    "a purple triangle below a green square",
)


class TextToLatents(nn.Module):
    """What is trained: text encoder, transformer, and a head that says what fills each token's place.

    The head is for training alone. It reads the tokens in the middle of the stack, so that the first half learns early
    what goes where; the same thought as aligning features with a pretrained encoder's (REPA, arXiv 2410.06940), with
    the truth of the procedural world in the encoder's place.
    """

    def __init__(self, size: Size, text_encoder: T5EncoderModel) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.transformer = PixArtTransformer2DModel(
            num_attention_heads=size.heads,
            attention_head_dim=size.width // size.heads,
            in_channels=4,
            out_channels=4,
            num_layers=size.depth,
            cross_attention_dim=size.width,
            caption_channels=_TEXT_WIDTH,
            sample_size=32,
            patch_size=2,
        )
        for block in self.transformer.transformer_blocks:
            nn.init.zeros_(block.attn2.to_out[0].weight)  # as published: a block begins without the text
        nn.init.zeros_(self.transformer.proj_out.weight)
        self.layout = nn.Linear(size.width, 1 + len(SHAPES) * len(COLOURS))
        self._middle: Tensor | None = None
        self.transformer.transformer_blocks[size.depth // 2 - 1].register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, arguments: object, output: Tensor) -> None:
        self._middle = output

    def forward(self, ids: Tensor, mask: Tensor, noisy: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Velocity like `noisy` (B, C, H, W), and logits of each token's content (B, H/2 · W/2, contents)."""
        text = self.text_encoder(input_ids=ids, attention_mask=mask)[0]
        velocity = self.transformer(
            noisy,
            encoder_hidden_states=text,
            encoder_attention_mask=mask,
            timestep=1000 * sigma,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )[0]
        assert self._middle is not None
        layout, self._middle = self.layout(self._middle), None
        return velocity, layout


class TextTask(LatentTask):
    """Flow matching at the times that the sampler visits, and a layout loss for the stack's middle.

    Logit-normal times (SD3, arXiv 2403.03206, §3.1) around 0.8 gave noise above 0.9 a share of 8%, where the sampler
    takes a quarter of its steps and where things are placed and counted: more steps of it made the loss smaller and the
    count no better.
    """

    name = "text"

    def new_model(self, size: Size, start: Path | None, words: Path | None) -> nn.Module:
        self.tokenizer = new_tokenizer()
        self.parts = TextToLatents(size, new_text_encoder(self.tokenizer, _TEXT_WIDTH))
        if start is not None:
            self.parts.text_encoder = T5EncoderModel.from_pretrained(start / "text_encoder", dtype=torch.float32)
            trained = PixArtTransformer2DModel.from_pretrained(start / "transformer")
            self.parts.transformer.load_state_dict(trained.state_dict())
        if words is not None:
            self.parts.text_encoder = load_words(words, self.tokenizer)
        self.transformer = self.parts.transformer
        return self.parts

    @cached_property
    def captions(self) -> list[str]:
        """Of the pictures, in their order."""
        sources = [self.whole] if self.half is None else [self.whole, self.half]
        return [draw_scene(self.seed, i).caption for i in range(max(len(source.latents) for source in sources))]

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        source, chosen = self.batch_of(step, generator)
        dropped = torch.rand(len(chosen), generator=generator) < _DROPPED
        captions = ["" if drop else self.captions[i] for i, drop in zip(chosen.tolist(), dropped, strict=True)]
        text = self.tokenizer(captions, padding="longest", return_tensors="pt").to(self.device)
        clean = source.latents[chosen].float().to(self.device)
        time = torch.rand(len(chosen), generator=generator).to(self.device)
        sigma = towards_noise(time, _SHIFT * self.shift)
        noise = torch.randn(clean.shape, generator=generator).to(self.device)
        share = sigma[:, None, None, None]
        noisy = (1 - share) * clean + share * noise
        velocity, layout = self.model(text.input_ids, text.attention_mask, noisy, sigma)
        return flow_loss(velocity, noise - clean, layout, source.labels[chosen])

    def sample(self, folder: Path) -> str:
        pipe = self.pipeline()
        pipe.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(0)
        pictures = pipe(
            list(_SAMPLES),
            generator=generator,
            height=self.side,
            width=self.side,
            use_resolution_binning=False,
            output_type="pt",
        ).images
        save_grid(2 * pictures - 1, folder / "sample.png", columns=4, side=256)
        return f"drawn: {folder / 'sample.png'}"

    def pipeline(self) -> PixArtAlphaPipeline:
        return PixArtAlphaPipeline(
            tokenizer=self.tokenizer,
            text_encoder=self.parts.text_encoder.eval(),
            vae=self.vae,
            transformer=self.parts.transformer.eval(),
            scheduler=DPMSolverMultistepScheduler(
                algorithm_type="dpmsolver++",
                prediction_type="flow_prediction",
                use_flow_sigmas=True,
                flow_shift=_SHIFT,
            ),
        )

    def pictures(self, side: int, first: int, number: int) -> tuple[Tensor, Tensor]:
        scenes: list[Scene] = [draw_scene(self.seed, first + i) for i in range(number)]
        labels = label_map(scenes, side // 16, device=self.device).flatten(1).to(torch.uint8)
        return 2 * render(scenes, side, device=self.device) - 1, labels
