"""The pipeline: what it generates, saves, keeps and refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tocache.errors import CheckpointError, OptionError
from tocache.opensora import OpenSoraPipeline, RFlowScheduler, load_original_vae
from tocache.opensora.conditions import as_video

SMALL: dict[str, Any] = {
    "height": 32,
    "width": 48,
    "num_frames": 20,
    "num_inference_steps": 3,
    "clean_caption": False,
    "aesthetic_score": None,
    "output_type": "pt",
}


def draw(pipe: Any, prompt: Any = "a red ring", *, seed: int | list[int] = 0, **options: Any) -> Any:
    seeds = seed if isinstance(seed, list) else [seed]
    generators = [torch.Generator().manual_seed(one) for one in seeds]
    arguments = {"generator": generators if len(seeds) > 1 else generators[0]}
    return pipe(prompt, **SMALL | arguments | options).frames


def picture(width: int = 90, height: int = 60) -> PIL.Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return PIL.Image.fromarray(noise)


class TestOutputs:
    def test_video(self, pipe: Any) -> None:
        video = draw(pipe)
        assert video.shape == (1, 20, 3, 32, 48)
        assert (video.min() >= 0, video.max() <= 1) == (True, True)
        assert torch.equal(video, draw(pipe))
        assert not torch.equal(video, draw(pipe, seed=1))
        assert not torch.equal(video, draw(pipe, "two blue squares"))

    def test_image(self, pipe: Any) -> None:
        assert draw(pipe, num_frames=1).shape == (1, 1, 3, 32, 48)

    def test_kinds(self, pipe: Any) -> None:
        video = draw(pipe)
        array = draw(pipe, output_type="np")
        pictures = draw(pipe, output_type="pil")
        assert np.array_equal(array, video.permute(0, 1, 3, 4, 2).numpy())
        assert (len(pictures), len(pictures[0]), pictures[0][0].size) == (1, 20, (48, 32))
        latents = draw(pipe, output_type="latent")
        assert latents.shape == (1, 4, 6, 4, 6)
        (as_tuple,) = pipe("a red ring", **SMALL, generator=torch.Generator().manual_seed(0), return_dict=False)
        assert torch.equal(as_tuple, video)

    def test_named_size(self, pipe: Any) -> None:
        seen = {}
        pipe.transformer.register_forward_pre_hook(
            lambda _module, args, kwargs: seen.update(kwargs, x=args[0]), with_kwargs=True
        )
        draw(
            pipe,
            **{"height": None, "width": None, "resolution": "144p", "aspect_ratio": "1:1", "num_frames": "2s"},
            num_inference_steps=1,
            output_type="latent",
        )
        assert seen["x"].shape == (2, 4, 15, 24, 24)
        assert (seen["height"], seen["width"], seen["fps"]) == (192.0, 192.0, 24.0)
        draw(pipe, num_frames=1, num_inference_steps=1, output_type="latent", guidance_scale=1.0)
        assert (seen["fps"], len(seen["x"])) == (120.0, 1)

    def test_size_that_is_no_multiple_is_cut(self, pipe: Any) -> None:
        assert draw(pipe, height=37, width=50, num_frames=1).shape == (1, 1, 3, 32, 48)


class TestGuidance:
    def test_batch_is_cond_then_uncond_under_the_prompts_mask(self, pipe: Any) -> None:
        seen: dict[str, Any] = {}
        pipe.transformer.register_forward_pre_hook(lambda _module, _args, kwargs: seen.update(kwargs), with_kwargs=True)
        draw(pipe, ["sea", "a red ring"], num_inference_steps=1, output_type="latent")
        embeddings, mask = pipe.encode_prompt(["sea", "a red ring"], clean_caption=False, aesthetic_score=None)
        longest = int(mask.sum(dim=1).max())
        text, shown = seen["encoder_hidden_states"], seen["encoder_attention_mask"]
        assert torch.equal(text[:2], embeddings[:, :longest])
        assert torch.equal(text[2:], pipe.transformer.y_embedder.y_embedding[:longest].expand(2, -1, -1))
        assert torch.equal(shown, mask[:, :longest].repeat(2, 1))

    def test_formula(self, pipe: Any) -> None:
        """One step of guidance g is uncond + g · (cond − uncond), from the noise to time 0."""
        noise = torch.randn(1, 4, 6, 4, 6, generator=torch.Generator().manual_seed(5))
        embeddings, mask = pipe.encode_prompt("sea", clean_caption=False, aesthetic_score=None)
        time = torch.tensor([1000.0])
        with torch.no_grad():
            cond, uncond = (
                pipe.transformer(noise, time, text, mask, height=32, width=48).sample[:, :4]
                for text in (embeddings, pipe.transformer.y_embedder.y_embedding[None])
            )
        moved = draw(pipe, "sea", latents=noise, guidance_scale=3.0, num_inference_steps=1, output_type="latent")
        torch.testing.assert_close(moved, noise + uncond + 3.0 * (cond - uncond), rtol=1e-5, atol=1e-4)
        moved = draw(pipe, "sea", latents=noise, guidance_scale=1.0, num_inference_steps=1, output_type="latent")
        torch.testing.assert_close(moved, noise + cond, rtol=1e-5, atol=1e-4)

    def test_batch_equals_singles(self, pipe: Any) -> None:
        prompts = ["sea", "a red ring moving left", "two"]
        together = draw(pipe, prompts, seed=[4, 5, 6])
        alone = [draw(pipe, prompt, seed=4 + i) for i, prompt in enumerate(prompts)]
        torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)

    def test_given_embeddings(self, pipe: Any) -> None:
        embeddings, mask = pipe.encode_prompt("a red ring", clean_caption=False, aesthetic_score=None)
        expected = draw(pipe)
        pipe.text_encoder = pipe.tokenizer = None
        assert torch.equal(draw(pipe, None, prompt_embeds=embeddings, prompt_attention_mask=mask), expected)

    def test_several_videos_of_a_prompt(self, pipe: Any) -> None:
        videos = draw(pipe, ["sea", "two"], seed=[0, 1, 2, 3], num_videos_per_prompt=2)
        assert len(videos) == 4
        torch.testing.assert_close(videos[2:3], draw(pipe, "two", seed=2), rtol=1e-4, atol=1e-4)


class TestMemory:
    def test_bf16(self, pipe: Any) -> None:
        exact = draw(pipe)
        rough = draw(pipe.to(torch.bfloat16))
        assert rough.isfinite().all()
        assert (rough.float() - exact).abs().mean() < 0.05

    def test_model_offload_runs_one_model_at_a_time(self, pipe: Any) -> None:
        """On the CPU the models stay where they are, but the hooks that would move them run, in order."""
        expected = draw(pipe)
        pipe.enable_model_cpu_offload(device="cpu")
        assert pipe.model_cpu_offload_seq == "text_encoder->transformer->vae"
        order: list[str] = []
        for name in ("text_encoder", "transformer", "vae"):
            hook = getattr(pipe, name)._hf_hook
            hook.pre_forward = _recorded(hook.pre_forward, name, order)
        assert torch.equal(draw(pipe), expected)
        assert order == ["text_encoder", *["transformer"] * 3, "vae"]

    def test_pictures_one_at_a_time(self, pipe: Any) -> None:
        expected = draw(pipe)
        pipe.vae.frames_at_once = 1
        torch.testing.assert_close(draw(pipe), expected, rtol=1e-4, atol=1e-4)


def _recorded(call: Callable[..., Any], name: str, order: list[str]) -> Callable[..., Any]:
    def recorded(*args: Any, **kwargs: Any) -> Any:
        order.append(name)
        return call(*args, **kwargs)

    return recorded


class TestCallbacks:
    def test_sees_and_replaces_latents(self, pipe: Any) -> None:
        times: list[float] = []

        def zero(_pipe: Any, step: int, time: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            assert step == len(times)
            times.append(float(time))
            return {"latents": torch.zeros_like(tensors["latents"])}

        latents = draw(pipe, output_type="latent", callback_on_step_end=zero)
        assert not latents.any()
        assert times == sorted(times, reverse=True)
        assert (len(times), pipe.num_timesteps, pipe.guidance_scale) == (3, 3, 7.0)

    def test_nothing_returned_changes_nothing(self, pipe: Any) -> None:
        assert torch.equal(draw(pipe, callback_on_step_end=lambda *_: None), draw(pipe))

    def test_interrupts(self, pipe: Any) -> None:
        steps: list[int] = []

        def stop(pipeline: Any, step: int, _time: Tensor, _tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            steps.append(step)
            pipeline._interrupt = True
            return {}

        draw(pipe, callback_on_step_end=stop)
        assert (steps, pipe.interrupt) == ([0], True)
        draw(pipe)
        assert not pipe.interrupt

    def test_progress_bar(self, pipe: Any, capsys: pytest.CaptureFixture[str]) -> None:
        pipe.set_progress_bar_config(disable=False)
        draw(pipe, num_frames=1)
        assert "3/3" in capsys.readouterr().err


class TestFolder:
    @pytest.mark.filterwarnings("ignore:`torch_dtype` is deprecated:FutureWarning")
    def test_saves_and_loads(self, pipe: Any, tmp_path: Path) -> None:
        pipe.save_pretrained(tmp_path)
        index = json.loads((tmp_path / "model_index.json").read_text(encoding="utf-8"))
        assert index["transformer"] == ["tocache.opensora.transformer", "STDiT3Transformer3DModel"]
        loaded = OpenSoraPipeline.from_pretrained(tmp_path)
        loaded.set_progress_bar_config(disable=True)
        assert torch.equal(draw(loaded), draw(pipe))
        half = OpenSoraPipeline.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
        assert {half.transformer.dtype, half.vae.dtype, half.text_encoder.dtype} == {torch.bfloat16}
        assert half.transformer.rope.freqs.dtype == torch.bfloat16

    def test_without_text_encoder(self, pipe: Any, tmp_path: Path) -> None:
        embeddings, mask = pipe.encode_prompt("sea", clean_caption=False)
        OpenSoraPipeline(None, None, pipe.transformer, pipe.vae, RFlowScheduler()).save_pretrained(tmp_path)
        loaded = OpenSoraPipeline.from_pretrained(tmp_path)
        assert loaded.text_encoder is None
        loaded.set_progress_bar_config(disable=True)
        assert draw(loaded, None, prompt_embeds=embeddings, prompt_attention_mask=mask).isfinite().all()

    def test_original_folders(
        self, pipe: Any, tmp_path: Path, tiny_vae: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The published layout: two folders of safetensors, and T5 with its tokenizer."""
        pipe.vae = tiny_vae()
        for name, model in (("stdit", pipe.transformer), ("vae", pipe.vae)):
            (tmp_path / name).mkdir()
            state = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
            save_file(state, tmp_path / name / "model.safetensors")
        pipe.text_encoder.save_pretrained(tmp_path / "t5")
        pipe.tokenizer.save_pretrained(tmp_path / "t5")
        folders = (tmp_path / "stdit", tmp_path / "vae", tmp_path / "t5")
        with pytest.raises(CheckpointError, match="its sizes do not make a model"):  # 32 groups where 4 channels are
            OpenSoraPipeline.from_original(*folders)
        monkeypatch.setattr(
            "tocache.opensora.pipeline.load_original_vae", partial(load_original_vae, norm_num_groups=2)
        )
        loaded = OpenSoraPipeline.from_original(*folders)
        loaded.set_progress_bar_config(disable=True)
        torch.testing.assert_close(draw(loaded), draw(pipe), rtol=1e-5, atol=1e-5)
        half = OpenSoraPipeline.from_original(*folders, dtype=torch.bfloat16, text_dtype=torch.float32)
        dtypes = (half.transformer.dtype, half.vae.dtype, half.text_encoder.dtype)
        assert dtypes == (torch.bfloat16, torch.bfloat16, torch.float32)
        assert OpenSoraPipeline.from_original(*folders[:2], None).text_encoder is None


class TestFirstFrame:
    def test_is_kept(self, pipe: Any) -> None:
        """The picture's latent is in the result as it was encoded, and its first frame shows it decoded."""
        latents = draw(pipe, image=picture(), output_type="latent")
        generator = torch.Generator().manual_seed(0)
        torch.randn(latents.shape, generator=generator)  # the noise is drawn first
        with torch.no_grad():
            encoded = pipe.vae.encode(as_video(picture(), 32, 48)[None], generator=generator)
        assert torch.equal(latents[:, :, :1], encoded)
        assert not torch.allclose(latents, draw(pipe, output_type="latent"))

    def test_masks_the_first_latent_frame(self, pipe: Any) -> None:
        masks: list[Any] = []
        pipe.transformer.register_forward_pre_hook(
            lambda _module, _args, kwargs: masks.append(kwargs["frame_mask"]), with_kwargs=True
        )
        draw(pipe, image=picture())
        assert all(mask.tolist() == [[False, *[True] * 5]] * 2 for mask in masks)
        masks.clear()
        draw(pipe)
        assert masks == [None] * 3

    def test_one_for_each_prompt(self, pipe: Any) -> None:
        pictures = [picture(), PIL.Image.new("RGB", (48, 32), "red")]
        together = draw(pipe, ["sea", "two"], image=pictures, seed=[1, 2])
        alone = [
            draw(pipe, prompt, image=one, seed=1 + i)
            for i, (prompt, one) in enumerate(zip(["sea", "two"], pictures, strict=True))
        ]
        torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)
        with pytest.raises(OptionError, match="image holds 3 pictures; allowed: one, or one for each of the 2 prompts"):
            draw(pipe, ["sea", "two"], image=[picture()] * 3)


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"height": None, "width": None, "resolution": "8k"},
                "resolution='8k' is not allowed; allowed: 144p, 240p",
            ),
            ({"height": None, "width": None, "aspect_ratio": "1:9"}, "aspect_ratio='1:9' is not allowed; allowed: 3:8"),
            ({"height": None}, "height=None is not allowed; allowed: an integer >= 16, with the other side"),
            ({"num_frames": "3s"}, "num_frames='3s' is not allowed; allowed: 2s, 4s, 8s, 16s, or a number"),
            ({"num_frames": 0}, "num_frames=0 is not allowed"),
            ({"output_type": "gif"}, "output_type='gif' is not allowed; allowed: pil, np, pt, latent"),
            ({"num_inference_steps": 0}, "num_inference_steps=0 is not allowed"),
            (
                {"latents": torch.zeros(1, 4, 5, 4, 6)},
                r"latents have shape \(1, 4, 5, 4, 6\); expected \(1, 4, 6, 4, 6\)",
            ),
            ({"prompt_embeds": torch.zeros(1, 2, 32)}, "give either prompt or prompt_embeds, and not both"),
            ({"prompt_attention_mask": torch.ones(1, 2)}, "given together, or neither"),
            ({"callback_on_step_end_tensor_inputs": ["noise"]}, r"\['noise'\] are not allowed; allowed: latents"),
        ],
    )
    def test_is_named_with_what_is_allowed(self, pipe: Any, options: dict[str, Any], message: str) -> None:
        with pytest.raises(OptionError, match=message):
            draw(pipe, **options)

    def test_nothing_to_draw(self, pipe: Any) -> None:
        with pytest.raises(OptionError, match="give either prompt or prompt_embeds"):
            draw(pipe, None)


def test_the_library_does_not_import_it() -> None:
    code = "import sys, tocache; tocache.__all__; assert not any('opensora' in name for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_are_imported_when_used() -> None:
    import tocache.opensora as package

    assert all(getattr(package, name) is not None for name in package.__all__)
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'STDiT4'"):
        _ = package.STDiT4
