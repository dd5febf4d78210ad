"""`demo:video`: Open-Sora's transformer and a small T5, trained together on clips of the world and their captions."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import PixArtTransformer2DModel
from torch import Tensor, nn
from transformers import T5EncoderModel

from tocache.demo.train.clips import FRAMES, clip_latents, clips, load_video_vae
from tocache.demo.train.from_pictures import begin_as_pictures
from tocache.demo.train.latent_task import Latents, LatentTask, Size, flow_loss, towards_noise
from tocache.demo.train.pictures import save_grid
from tocache.demo.train.text_encoder import SCORE_WORDS, load_words, new_text_encoder, new_tokenizer, resized
from tocache.demo.world.scene import COLOURS, SHAPES
from tocache.opensora import AutoencoderKLOpenSora, OpenSoraPipeline, RFlowScheduler, STDiT3Transformer3DModel
from tocache.opensora.text import plain, with_scores

SIDE = 128
"""Of the finished model's clips in pixels; positions in smaller ones are spread over the same range."""

_DROPPED = 0.1  # share of captions that are left out, for guidance
_BARE = 0.1  # share of captions without the score that the pipeline writes behind prompts
_TEXT_WIDTH, _TEXT_LENGTH = 128, 120
_FPS = 8  # a clip lasts about a second
_RATES = (6, 30)  # frames per second that are told in training: a clip is the same at all of them
_BASE_RESOLUTION = 64 * 64  # √3 times more noise at this size than without a transform, twice that at 128 × 128
_SAMPLES = (
    "a red circle moving right",
    "a yellow ring moving left",
    "a large blue square moving slowly up",
    "a green star moving fast down",
    "a white cross moving left and a purple triangle moving right",
    "a small orange circle moving quickly right",
)


class TextToVideo(nn.Module):
    """What is trained: text encoder, transformer, and a head that says what fills each token's place and time.

    The head is for training alone, as in `TextToLatents`; here it also teaches early what moves where.
    """

    def __init__(self, size: Size, text_encoder: T5EncoderModel, side: int) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.transformer = STDiT3Transformer3DModel(
            num_layers=size.depth,
            num_attention_heads=size.heads,
            attention_head_dim=size.width // size.heads,
            in_channels=4,
            out_channels=4,
            caption_channels=_TEXT_WIDTH,
            max_text_length=_TEXT_LENGTH,
            input_sq_size=2 * SIDE,  # positions as in demo:text, whose pictures have twice the side
            qk_norm=False,  # nor has demo:text, from whose blocks these can begin
            sample_size=side // 8,
            sample_frames=FRAMES,
            sample_fps=_FPS,
        )
        for block in (*self.transformer.spatial_blocks, *self.transformer.temporal_blocks):
            nn.init.zeros_(block.cross_attn.proj.weight)  # as published: a block begins without the text
        nn.init.zeros_(self.transformer.final_layer.linear.weight)
        self.layout = nn.Linear(size.width, 1 + len(SHAPES) * len(COLOURS))
        self._middle: Tensor | None = None
        self.transformer.temporal_blocks[(size.depth - 1) // 2].register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, arguments: object, output: Tensor) -> None:
        self._middle = output

    def forward(
        self, ids: Tensor, mask: Tensor, dropped: Tensor, noisy: Tensor, times: Tensor, fps: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Velocity like `noisy` (B, C, T, H, W), and logits of each token's content (B, T · H/2 · W/2, contents).

        `dropped` (B,) is True where the caption is left out: the embedding of no caption stands in its place, under
        the caption's mask, as the pipeline has it.
        """
        text = self.text_encoder(input_ids=ids, attention_mask=mask)[0]
        nothing = self.transformer.y_embedder.y_embedding[: text.shape[1]].to(text)
        text = torch.where(dropped[:, None, None], nothing, text)
        velocity = self.transformer(
            noisy,
            timestep=times,
            encoder_hidden_states=text,
            encoder_attention_mask=mask,
            fps=fps,
            return_dict=False,
        )[0]
        assert self._middle is not None
        layout, self._middle = self.layout(self._middle), None
        return velocity, layout


class VideoTask(LatentTask):
    """Rectified flow at the times that the sampler visits: even ones, moved by the timestep transform.

    `start` may be demo:text: its transformer then draws each frame, and what is learned is how frames belong together.
    """

    name = "video"
    blocks = ("spatial_blocks", "temporal_blocks")
    vae: AutoencoderKLOpenSora

    def new_model(self, size: Size, start: Path | None, words: Path | None) -> nn.Module:
        self.tokenizer = new_tokenizer(SCORE_WORDS)
        self.parts = TextToVideo(size, new_text_encoder(self.tokenizer, _TEXT_WIDTH), self.side)
        if start is not None:
            encoder = T5EncoderModel.from_pretrained(start / "text_encoder", dtype=torch.float32)
            resized(encoder, self.tokenizer)
            self.parts.text_encoder = encoder
        if words is not None:
            self.parts.text_encoder = load_words(words, self.tokenizer)
        if start is not None:
            self._begin_as(start / "transformer")
        self.transformer = self.parts.transformer
        self.scheduler = RFlowScheduler(base_resolution=_BASE_RESOLUTION)
        return self.parts

    def _begin_as(self, trained: Path) -> None:
        kind = json.loads((trained / "config.json").read_text())["_class_name"]
        if kind == STDiT3Transformer3DModel.__name__:
            self.parts.transformer.load_state_dict(STDiT3Transformer3DModel.from_pretrained(trained).state_dict())
        elif kind == PixArtTransformer2DModel.__name__:
            pictures = PixArtTransformer2DModel.from_pretrained(trained)
            begin_as_pictures(self.parts.transformer, pictures, self._nothing())

    @torch.no_grad()
    def _nothing(self) -> Tensor:
        """What the text encoder says of no caption."""
        none = self.tokenizer([""], return_tensors="pt")
        states: Tensor = self.parts.text_encoder(input_ids=none.input_ids, attention_mask=none.attention_mask)[0]
        return states[0, -1]

    def load_vae(self, folder: Path) -> AutoencoderKLOpenSora:
        return load_video_vae(folder, self.device)

    def load_latents(self, count: int, side: int) -> Latents:
        # read, or made, only where latents of clips are missing
        self._frames = functools.cache(
            functools.partial(clip_latents, self.cache, self.seed, side, count, self.vae, self.device)
        )
        # a temporal half that was trained on needs other latents, and both are there while one tries it out
        self.name = f"{type(self).name}-{_fingerprint(self.vae.temporal_vae)}"
        made = super().load_latents(count, side)
        self._frames.cache_clear()  # three times as large as what is made of it
        return made

    def pictures(self, side: int, first: int, number: int) -> tuple[Tensor, Tensor]:
        """Clips, as latents of their frames (number, C, FRAMES, side / 8, side / 8), and `contents`."""
        latents, labels = (kept[first : first + number] for kept in self._frames())
        return latents.float().to(self.device), labels

    def encode(self, pictures: Tensor) -> Tensor:
        """Latents of frames (B, C, FRAMES, h, w) to latents of the clip, normalised (B, C, 3, h, w)."""
        mean: Tensor = self.vae.temporal_vae.encode(pictures).chunk(2, dim=1)[0]
        return (mean - self.vae.shift) / self.vae.scale

    @functools.cached_property
    def captions(self) -> list[str]:
        """Of the clips, in their order."""
        sources = [self.whole] if self.half is None else [self.whole, self.half]
        return [scene.caption for scene in clips(self.seed, 0, max(len(source.latents) for source in sources))]

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        source, chosen = self.batch_of(step, generator)
        dropped = torch.rand(len(chosen), generator=generator) < _DROPPED
        bare = torch.rand(len(chosen), generator=generator) < _BARE
        prompts = [
            plain(self.captions[i] if without else with_scores(self.captions[i]))
            for i, without in zip(chosen.tolist(), bare, strict=True)
        ]
        text = self.tokenizer(prompts, padding="longest", return_tensors="pt").to(self.device)
        clean = source.latents[chosen].float().to(self.device)
        times = 1000 * torch.rand(len(chosen), generator=generator)
        times = self.scheduler.moved(times, source.side, source.side, FRAMES)
        times = 1000 * towards_noise(times / 1000, self.shift).to(self.device)
        noise = torch.randn(clean.shape, generator=generator).to(self.device)
        fps = torch.randint(_RATES[0], _RATES[1] + 1, (len(chosen),), generator=generator).to(self.device)
        noisy = self.scheduler.add_noise(clean, noise, times)
        velocity, layout = self.model(text.input_ids, text.attention_mask, dropped.to(self.device), noisy, times, fps)
        return flow_loss(velocity, clean - noise, layout, source.labels[chosen])

    def sample(self, folder: Path) -> str:
        pipe = self.pipeline()
        pipe.set_progress_bar_config(disable=True)
        drawn: Any = pipe(
            list(_SAMPLES),
            generator=torch.Generator().manual_seed(0),
            height=self.side,
            width=self.side,
            num_frames=FRAMES,
            fps=_FPS,
            clean_caption=False,
            output_type="pt",
        )
        shown = drawn.frames[:, :: FRAMES // 4]  # (samples, 5, 3, side, side)
        save_grid(2 * shown.flatten(0, 1) - 1, folder / "sample.png", columns=shown.shape[1])
        return f"drawn: {folder / 'sample.png'}"

    def pipeline(self) -> OpenSoraPipeline:
        return OpenSoraPipeline(
            tokenizer=self.tokenizer,
            text_encoder=self.parts.text_encoder.eval(),
            transformer=self.transformer.eval(),
            vae=self.vae,
            scheduler=self.scheduler,
        )


def _fingerprint(module: nn.Module) -> str:
    """Eight characters that change with the weights."""
    digest = hashlib.sha256()
    for weight in module.state_dict().values():
        digest.update(weight.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]
