"""Open-Sora 1.2 as a diffusers pipeline: text, and frames that are given, to a video or a picture."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor
from torch import Tensor

from tocache.errors import OptionError
from tocache.opensora import inputs, text
from tocache.opensora.conditions import FrameCondition, FrameMask, give_frames
from tocache.opensora.original import load_original_text, load_original_transformer, load_original_vae
from tocache.opensora.pipeline_output import OpenSoraPipelineOutput
from tocache.opensora.scheduler import RFlowScheduler
from tocache.opensora.sizes import FPS, IMAGE_FPS, frame_count, video_size

Generator = torch.Generator | list[torch.Generator] | None


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

        Raises CheckpointError for a checkpoint that does not fit, naming what does not, and where a package is missing
        that reads the published tokenizer; OSError where a folder cannot be read.
        """
        tokenizer = encoder = None
        if t5_dir is not None:
            tokenizer, encoder = load_original_text(t5_dir, dtype=text_dtype or dtype)
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
        prompt: str | Sequence[str] | None,
        *,
        prompt_embeds: Tensor | None = None,
        prompt_attention_mask: Tensor | None = None,
        num_videos_per_prompt: int = 1,
        aesthetic_score: float | None = 6.5,
        motion_score: float | None = None,
        camera_motion: str | None = None,
        clean_caption: bool = True,
        device: torch.device | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Embeddings (videos, max_text_length, caption channels) and mask (videos, max_text_length) on the device.

        Options are those of the call; embeddings that are given are not computed. A prompt that is too long is
        truncated with a TocacheWarning. Raises OptionError where there is no text encoder.
        """
        device = device or self._execution_device
        if prompt_embeds is None or prompt_attention_mask is None:
            if self.tokenizer is None or self.text_encoder is None:
                raise OptionError("the pipeline has no text encoder: give prompt_embeds and prompt_attention_mask")
            clean = text.cleaned if clean_caption else text.plain
            prompts = [
                clean(text.with_scores(one, aesthetic_score, motion_score, camera_motion))
                for one in ([prompt] if isinstance(prompt, str) else prompt or ())
            ]
            length = self.transformer.config.max_text_length
            prompt_embeds, prompt_attention_mask = text.embed(
                prompts, self.tokenizer, self.text_encoder, length, device
            )
        captions = prompt_embeds.to(device, self.transformer.dtype)
        mask = prompt_attention_mask.to(device)
        return captions.repeat_interleave(num_videos_per_prompt, 0), mask.repeat_interleave(num_videos_per_prompt, 0)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        image: Any = None,
        *,
        conditions: Sequence[FrameCondition] = (),
        resolution: str | None = None,
        aspect_ratio: str | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: str | int | None = None,
        fps: float | None = None,
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

        A size, a length or a rate that is not given is what the transformer's configuration names (`sample_size`,
        `sample_frames`, `sample_fps`), or where it names none, as published: 240p, 9:16, 2 s at 24 frames per second.

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
        trained = self.transformer.config
        frames = frame_count((trained.sample_frames or "2s") if num_frames is None else num_frames)
        side = trained.sample_size and trained.sample_size * self.vae_scale_factor
        size = video_size(resolution, aspect_ratio, height, width, side)
        fps = (trained.sample_fps or FPS) if fps is None else fps
        inputs.check_prompts(prompt, prompt_embeds, prompt_attention_mask, self.transformer.config)
        inputs.check_numbers(fps=fps, guidance_scale=guidance_scale, num_videos_per_prompt=num_videos_per_prompt)
        inputs.check_outputs(output_type, callback_on_step_end_tensor_inputs, self._callback_tensor_inputs)
        self._guidance_scale, self._interrupt = float(guidance_scale), False

        captions, caption_mask = self.encode_prompt(
            prompt,
            prompt_embeds=prompt_embeds,
            prompt_attention_mask=prompt_attention_mask,
            num_videos_per_prompt=num_videos_per_prompt,
            aesthetic_score=aesthetic_score,
            motion_score=motion_score,
            camera_motion=camera_motion,
            clean_caption=clean_caption,
        )
        latents = self.prepare_latents(len(captions), frames, size, generator, latents)
        total = self.scheduler.config.num_train_timesteps
        frame_mask = give_frames(latents, image, conditions, size, self.vae, total, generator, num_videos_per_prompt)
        told = self._conditioning(captions, caption_mask, frames, size, fps)
        times = self._times(num_inference_steps, frames, size)
        with self.progress_bar(total=self._num_timesteps) as bar:
            for i, time in enumerate(times):
                if self._interrupt:
                    continue
                latents = self._step(time, latents, frame_mask, told)
                if callback_on_step_end is not None:
                    seen = dict.fromkeys(callback_on_step_end_tensor_inputs, latents)
                    latents = (callback_on_step_end(self, i, time, seen) or {}).get("latents", latents)
                bar.update()
        video = self._decoded(latents, frames, output_type)
        self.maybe_free_model_hooks()
        return OpenSoraPipelineOutput(frames=video) if return_dict else (video,)

    def prepare_latents(
        self,
        batch: int,
        num_frames: int,
        size: tuple[int, int],
        generator: Generator = None,
        latents: Tensor | None = None,
    ) -> Tensor:
        """`latents` (batch, C, T, h, w) on the device, or noise, in a tensor that the caller does not hold.

        `size` is (height, width) in pixels. Raises OptionError for latents of another shape, and for a list of
        generators of another length than the batch.
        """
        if isinstance(generator, list) and len(generator) != batch:
            raise OptionError(f"generator holds {len(generator)}; allowed: one, or one for each of the {batch} videos")
        time, channels = self.vae.latent_frames(num_frames), self.transformer.config.in_channels
        shape = (batch, channels, time, *(side // self.vae_scale_factor for side in size))
        device = self._execution_device
        if latents is None:
            noise: Tensor = randn_tensor(shape, generator=generator, device=device, dtype=self.transformer.dtype)
            return noise
        if tuple(latents.shape) != shape:
            raise OptionError(f"latents have shape {tuple(latents.shape)}; expected {shape}")
        return latents.to(device, copy=True)

    def _times(self, steps: int, num_frames: int, size: tuple[int, int]) -> Tensor:
        """(steps,) from the scheduler, shifted by what the video's size is in the transformer's dtype."""
        sizes = {"height": size[0], "width": size[1], "num_frames": num_frames}
        self.scheduler.set_timesteps(steps, device=self._execution_device, dtype=self.transformer.dtype, **sizes)
        times: Tensor = self.scheduler.timesteps
        self._num_timesteps = len(times)
        return times

    def _conditioning(
        self, captions: Tensor, mask: Tensor, num_frames: int, size: tuple[int, int], fps: float
    ) -> dict[str, Any]:
        """What the transformer is told in every step beside latents and time; batch [cond, uncond]."""
        if self.do_classifier_free_guidance:
            # no caption has an embedding of its own, and is seen under the prompt's mask: so the model was trained
            nothing = self.transformer.y_embedder.y_embedding.to(captions)[: captions.shape[1]]
            captions, mask = torch.cat([captions, nothing.expand_as(captions)]), mask.repeat(2, 1)
        captions, shown = text.without_padding(captions, mask)
        return {
            "encoder_hidden_states": captions,
            "encoder_attention_mask": shown,
            "fps": float(fps) if num_frames > 1 else float(IMAGE_FPS),
            "height": float(size[0]),
            "width": float(size[1]),
        }

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

    def _decoded(self, latents: Tensor, num_frames: int, output_type: str) -> Any:
        if output_type == "latent":
            return latents
        pixels = self.vae.decode(latents.to(self.vae.dtype), num_frames=num_frames)
        return self.video_processor.postprocess_video(pixels, output_type=output_type)
