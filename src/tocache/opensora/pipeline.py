"""Open-Sora 1.2 as a diffusers pipeline: text, and frames that are given, to a video or a picture."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor
from torch import Tensor

from tocache.errors import OptionError
from tocache.opensora import text
from tocache.opensora.conditions import FrameCondition, FrameMask, as_video, per_row, place
from tocache.opensora.original import load_original_transformer, load_original_vae
from tocache.opensora.scheduler import RFlowScheduler
from tocache.opensora.sizes import FPS, IMAGE_FPS, checked_size, frame_count, pixel_size

_OUTPUTS = ("pil", "np", "pt", "latent")

Generator = torch.Generator | list[torch.Generator] | None


@dataclass
class OpenSoraPipelineOutput(BaseOutput):  # type: ignore[misc]
    """`frames`: lists of PIL pictures, an array (B, T, H, W, 3), a tensor (B, T, 3, H, W), or latents (B, C, T, h, w).

    Pixels are 0 … 1 in arrays and tensors. An image is a video of one frame.
    """

    frames: Any


class OpenSoraPipeline(DiffusionPipeline):  # type: ignore[misc]
    """Components: `tokenizer` and `text_encoder` (T5; both may be None where embeddings are given), `transformer`
    (STDiT3Transformer3DModel), `vae` (AutoencoderKLOpenSora), `scheduler` (RFlowScheduler)."""

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _optional_components = ["tokenizer", "text_encoder"]  # noqa: RUF012 - diffusers adds it to a list
    _callback_tensor_inputs = ["latents"]  # noqa: RUF012

    def __init__(self, tokenizer: Any, text_encoder: Any, transformer: Any, vae: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer, text_encoder=text_encoder, transformer=transformer, vae=vae, scheduler=scheduler
        )
        self.vae_scale_factor = vae.pixels_per_latent if vae is not None else 8
        self.video_processor = VideoProcessor(vae_scale_factor=self.vae_scale_factor)
        self._guidance_scale = 1.0
        self._num_timesteps = 0
        self._interrupt = False

    @classmethod
    def _get_signature_types(cls) -> dict[str, tuple[Any, ...]]:
        """Components may be of any class; diffusers 0.35 cannot read annotations that are strings, as all are here."""
        names = list(inspect.signature(cls.__init__).parameters)[1:]
        return dict.fromkeys(names, (inspect.Signature.empty,))

    @classmethod
    def from_original(
        cls,
        stdit_dir: str | Path,
        vae_dir: str | Path,
        t5_dir: str | Path | None,
        *,
        dtype: torch.dtype | None = None,
        text_dtype: torch.dtype | None = None,
    ) -> OpenSoraPipeline:
        """A pipeline from the published folders of the transformer, the autoencoder and T5 (None: without T5).

        dtype       of transformer and autoencoder; None: float32. Published runs use bfloat16
        text_dtype  of T5; None: `dtype`. The original runs it in float32

        Raises CheckpointError for a checkpoint that does not fit, naming what does not; OSError where a folder cannot
        be read.
        """
        tokenizer = encoder = None
        if t5_dir is not None:
            from transformers import AutoTokenizer, T5EncoderModel

            tokenizer = AutoTokenizer.from_pretrained(t5_dir)
            encoder = T5EncoderModel.from_pretrained(t5_dir, dtype=text_dtype or dtype or torch.float32).eval()
        transformer = load_original_transformer(stdit_dir, dtype=dtype)
        return cls(tokenizer, encoder, transformer, load_original_vae(vae_dir, dtype=dtype), RFlowScheduler())

    @property
    def guidance_scale(self) -> float:
        """Of the current call."""
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the batch holds an unconditional half, after the conditional one."""
        return self._guidance_scale > 1.0

    @property
    def num_timesteps(self) -> int:
        """Steps of the current call."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Set `_interrupt` in a callback to leave out the remaining steps."""
        return self._interrupt

    @torch.no_grad()
    def encode_prompt(
        self,
        prompt: str | Sequence[str],
        *,
        aesthetic_score: float | None = 6.5,
        motion_score: float | None = None,
        camera_motion: str | None = None,
        clean_caption: bool = True,
        device: torch.device | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Embeddings (prompts, max_text_length, caption channels) and mask (prompts, max_text_length).

        Options are those of the call. A prompt that is too long is truncated with a TocacheWarning.
        """
        if self.tokenizer is None or self.text_encoder is None:
            raise OptionError("the pipeline has no text encoder: give prompt_embeds and prompt_attention_mask")
        clean = text.cleaned if clean_caption else text.plain
        prompts = [
            clean(text.with_scores(one, aesthetic_score, motion_score, camera_motion))
            for one in ([prompt] if isinstance(prompt, str) else prompt)
        ]
        length = self.transformer.config.max_text_length
        return text.embed(prompts, self.tokenizer, self.text_encoder, length, device or self._execution_device)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        image: Any = None,
        *,
        conditions: Sequence[FrameCondition] = (),
        resolution: str = "240p",
        aspect_ratio: str = "9:16",
        height: int | None = None,
        width: int | None = None,
        num_frames: str | int = "2s",
        fps: float = FPS,
        num_inference_steps: int = 30,
        guidance_scale: float = 7.0,
        num_videos_per_prompt: int = 1,
        generator: Generator = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        prompt_attention_mask: Tensor | None = None,
        aesthetic_score: float | None = 6.5,
        motion_score: float | None = None,
        camera_motion: str | None = None,
        clean_caption: bool = True,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, Any, dict[str, Any]], dict[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> OpenSoraPipelineOutput | tuple[Any]:
        """Generate videos.

        prompt                    one or several; or `prompt_embeds` (B, L, channels) and `prompt_attention_mask` (B, L)
        image                     the first frame: a picture, or one for each prompt
        conditions                frames that are given, in every video; see FrameCondition
        resolution, aspect_ratio  names of a size (`RESOLUTIONS`, `ASPECT_RATIOS`; 9:16 is a wide video), unless
                                  `height` and `width` say it in pixels. A video is a multiple of 8 pixels: what is
                                  left over is cut off
        num_frames                "2s", "4s", "8s", "16s", or how many; 1 is a picture
        fps                       frames per second that the video is meant for
        guidance_scale            of classifier-free guidance; at most 1: no guidance
        generator                 one, or one for each video
        latents                   (B, C, T, h, w) to begin with instead of noise
        aesthetic_score, motion_score, camera_motion
                                  written to the end of the prompt, unless None
        clean_caption             clean the prompt as captions were cleaned in training
        output_type               "pil", "np", "pt" or "latent"
        callback_on_step_end      called with the pipeline, the step, its time and the tensors that
                                  `callback_on_step_end_tensor_inputs` names; a dict that it returns replaces them

        Raises OptionError for a value that is not allowed, with those that are.
        """
        frames = frame_count(num_frames)
        if height is None and width is None:
            height, width = pixel_size(resolution, aspect_ratio)
        height, width = checked_size(height, width)
        self._check(prompt, prompt_embeds, prompt_attention_mask, output_type, callback_on_step_end_tensor_inputs)
        self._guidance_scale, self._interrupt = float(guidance_scale), False
        device, dtype = self._execution_device, self.transformer.dtype

        if prompt_embeds is None or prompt_attention_mask is None:
            assert prompt is not None
            prompt_embeds, prompt_attention_mask = self.encode_prompt(
                prompt,
                aesthetic_score=aesthetic_score,
                motion_score=motion_score,
                camera_motion=camera_motion,
                clean_caption=clean_caption,
                device=device,
            )
        prompt_embeds = prompt_embeds.to(device, dtype).repeat_interleave(num_videos_per_prompt, dim=0)
        prompt_attention_mask = prompt_attention_mask.to(device).repeat_interleave(num_videos_per_prompt, dim=0)
        batch = len(prompt_embeds)

        side = self.vae_scale_factor
        shape = (
            *(batch, self.transformer.config.in_channels, self.vae.latent_frames(frames)),
            *(height // side, width // side),
        )
        latents = self.prepare_latents(shape, generator, latents, dtype, device)
        mask = self._give_frames(latents, image, conditions, (height, width), generator)

        sizes = {"height": height, "width": width, "num_frames": frames}
        self.scheduler.set_timesteps(num_inference_steps, device=device, dtype=dtype, **sizes)
        self._num_timesteps = len(self.scheduler.timesteps)
        told = self._conditioning(prompt_embeds, prompt_attention_mask)
        told |= {"fps": float(fps) if frames > 1 else float(IMAGE_FPS), "height": float(height), "width": float(width)}
        with self.progress_bar(total=self._num_timesteps) as bar:
            for i, time in enumerate(self.scheduler.timesteps):
                if self._interrupt:
                    continue
                latents = self._step(time, latents, mask, told)
                if callback_on_step_end is not None:
                    named = dict.fromkeys(callback_on_step_end_tensor_inputs, latents)
                    latents = (callback_on_step_end(self, i, time, named) or named).get("latents", latents)
                bar.update()

        if output_type == "latent":
            video: Any = latents
        else:
            pixels = self.vae.decode(latents.to(self.vae.dtype), num_frames=frames)
            video = self.video_processor.postprocess_video(pixels, output_type=output_type)
        self.maybe_free_model_hooks()
        return OpenSoraPipelineOutput(frames=video) if return_dict else (video,)

    def prepare_latents(
        self,
        shape: tuple[int, ...],
        generator: Generator,
        latents: Tensor | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Tensor:
        """`latents` on the device, or noise of `shape`, in a tensor that the caller does not hold."""
        if latents is None:
            noise: Tensor = randn_tensor(shape, generator=generator, device=device, dtype=dtype)
            return noise
        if tuple(latents.shape) != shape:
            raise OptionError(f"latents have shape {tuple(latents.shape)}; expected {shape}")
        return latents.to(device, copy=True)

    def _conditioning(self, captions: Tensor, mask: Tensor) -> dict[str, Any]:
        """The transformer's text arguments, the same in every step; batch [cond, uncond]."""
        if self.do_classifier_free_guidance:
            # no caption has an embedding of its own, and is seen under the prompt's mask: so the model was trained
            nothing = self.transformer.y_embedder.y_embedding.to(captions)[: captions.shape[1]]
            captions, mask = torch.cat([captions, nothing.expand_as(captions)]), mask.repeat(2, 1)
        captions, shown = text.without_padding(captions, mask)
        return {"encoder_hidden_states": captions, "encoder_attention_mask": shown}

    def _step(self, time: Tensor, latents: Tensor, mask: FrameMask | None, told: dict[str, Any]) -> Tensor:
        """The latents after one step."""
        active = None
        if mask is not None:
            latents, active = mask.begin(latents, time, self.scheduler.add_noise)
        copies = 2 if self.do_classifier_free_guidance else 1
        velocity = self.transformer(
            latents.repeat(copies, 1, 1, 1, 1),
            timestep=time.expand(copies * len(latents)),
            frame_mask=None if active is None else active.repeat(copies, 1),
            return_dict=False,
            **told,
        )[0]
        velocity = velocity[:, : latents.shape[1]]  # the rest is the predicted variance, which nobody uses
        if self.do_classifier_free_guidance:
            cond, uncond = velocity.chunk(2)
            velocity = uncond + self._guidance_scale * (cond - uncond)
        moved: Tensor = self.scheduler.step(velocity, time, latents, return_dict=False)[0]
        return moved if mask is None or active is None else mask.keep(moved, latents, active)

    def _give_frames(
        self,
        latents: Tensor,
        image: Any,
        conditions: Sequence[FrameCondition],
        size: tuple[int, int],
        generator: Generator,
    ) -> FrameMask | None:
        """Writes the given frames into `latents`, and says which those are; None where all are generated."""
        rows = len(latents)
        given = [[FrameCondition(frames=one)] for one in per_row(image, rows)] if image is not None else [[]] * rows
        if not any(given) and not conditions:
            return None
        edit = torch.ones(rows, latents.shape[2], device=latents.device)
        for row in range(rows):
            own = generator[row] if isinstance(generator, list) else generator
            for condition in (*given[row], *conditions):
                video = as_video(condition.frames, *size)[None].to(latents.device, self.vae.dtype)
                place(latents, row, condition, self.vae.encode(video, generator=own)[0], edit)

        def draw() -> Tensor:
            noise: Tensor = randn_tensor(latents.shape, generator, latents.device, latents.dtype)
            return noise

        return FrameMask(edit, self.scheduler.config.num_train_timesteps, draw)

    def _check(
        self, prompt: object, embeds: Tensor | None, mask: Tensor | None, output_type: str, names: Sequence[str]
    ) -> None:
        if (prompt is None) == (embeds is None):
            raise OptionError("give either prompt or prompt_embeds, and not both")
        if (embeds is None) != (mask is None):
            raise OptionError("prompt_embeds and prompt_attention_mask are given together, or neither")
        if output_type not in _OUTPUTS:
            raise OptionError(f"output_type={output_type!r} is not allowed; allowed: {', '.join(_OUTPUTS)}")
        if unknown := [name for name in names if name not in self._callback_tensor_inputs]:
            raise OptionError(
                f"callback_on_step_end_tensor_inputs={unknown} are not allowed; "
                f"allowed: {', '.join(self._callback_tensor_inputs)}"
            )
