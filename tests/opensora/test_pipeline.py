"""The pipeline: what it generates, saves, keeps and refuses."""

from __future__ import annotations

import json
import re
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
from safetensors.torch import load_file, save_file
from torch import Tensor

from tocache.errors import CheckpointError, OptionError
from tocache.opensora import OpenSoraPipeline, RFlowScheduler, load_original_vae

from .conftest import SMALL, draw, picture

MINIATURE = {"sample_size": 4, "sample_frames": 9, "sample_fps": 8}


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

    @pytest.mark.parametrize(
        ("trained", "given", "latent", "size", "fps"),
        [
            ({}, {}, (15, 30, 53), (240, 426), 24),
            ({}, {"aspect_ratio": "1:1"}, (15, 40, 40), (320, 320), 24),
            (MINIATURE, {}, (3, 4, 4), (32, 32), 8),
            (MINIATURE, {"resolution": "144p", "fps": 12}, (3, 18, 32), (144, 256), 12),
            (MINIATURE, {"height": 48, "width": 32, "num_frames": 17}, (5, 6, 4), (48, 32), 8),
        ],
        ids=["published", "one name", "miniature", "named", "sides"],
    )
    def test_what_is_not_given_is_what_the_model_was_trained_on(
        self,
        pipe: Any,
        trained: dict[str, Any],
        given: dict[str, Any],
        latent: tuple[int, ...],
        size: tuple[int, int],
        fps: int,
    ) -> None:
        pipe.transformer.register_to_config(**trained)
        seen: dict[str, Any] = {}

        def look(_module: object, arguments: tuple[Tensor], options: dict[str, Any]) -> None:
            seen.update(options, latent=tuple(arguments[0].shape[2:]))
            raise KeyboardInterrupt  # a published size takes minutes, and only its beginning is asked for

        pipe.transformer.register_forward_pre_hook(look, with_kwargs=True)
        with pytest.raises(KeyboardInterrupt):
            pipe("a red ring", clean_caption=False, aesthetic_score=None, **given)
        assert (seen["latent"], seen["height"], seen["width"], seen["fps"]) == (latent, *size, fps)

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

    def test_several_videos_of_a_prompt_and_its_picture(self, pipe: Any) -> None:
        images = [picture(), PIL.Image.new("RGB", (48, 32), (200, 30, 0))]
        options: dict[str, Any] = {"num_videos_per_prompt": 2, "output_type": "latent"}
        videos = draw(pipe, ["sea", "two"], seed=[0, 1, 2, 3], image=images, **options)
        for number in range(4):
            alone = draw(
                pipe, ["sea", "two"][number // 2], seed=number, image=images[number // 2], output_type="latent"
            )
            torch.testing.assert_close(videos[number : number + 1], alone, rtol=1e-4, atol=1e-4)
        with pytest.raises(OptionError, match="image holds 4 pictures; allowed: one, or one for each of the 2 prompts"):
            draw(pipe, ["sea", "two"], seed=[0, 1, 2, 3], image=2 * images, **options)


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

    @pytest.mark.parametrize("component", ["transformer", "vae"])
    @pytest.mark.parametrize("change", ["missing", "unexpected", "of another shape"])
    def test_tensors_that_do_not_fit(self, pipe: Any, tmp_path: Path, component: str, change: str) -> None:
        pipe.save_pretrained(tmp_path)
        path = tmp_path / component / "diffusion_pytorch_model.safetensors"
        state = load_file(path)
        name = sorted(name for name in state if name.endswith("bias"))[-1]
        if change == "missing":
            del state[name]
        elif change == "unexpected":
            state[name := "head.bias"] = torch.zeros(1)
        else:
            state[name] = torch.zeros(7)
        save_file(state, path)
        with pytest.raises(CheckpointError, match=rf"{component}: the tensors are not .*1 {change}: {re.escape(name)}"):
            OpenSoraPipeline.from_pretrained(tmp_path)

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


def test_the_library_does_not_import_it() -> None:
    code = "import sys, tocache; tocache.__all__; print([name for name in sys.modules if 'opensora' in name])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_public_names_are_imported_when_used() -> None:
    import tocache.opensora as package

    assert all(getattr(package, name) is not None for name in package.__all__)
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'STDiT4'"):
        _ = package.STDiT4
