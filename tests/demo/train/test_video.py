"""demo:video: its autoencoder, what it learns from, and that Open-Sora's pipeline draws with what is trained."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from typer.testing import CliRunner

from tocache.demo.train import video, video_vae
from tocache.demo.train.__main__ import app
from tocache.demo.train.clips import FRAMES, as_video, clips, contents
from tocache.demo.train.latent_task import Size
from tocache.demo.train.loop import Settings, Trainer
from tocache.demo.train.text import TextToLatents
from tocache.demo.train.text_encoder import new_text_encoder, new_tokenizer
from tocache.demo.train.video import VideoTask
from tocache.demo.train.video_vae import VideoVaeTask, new_video_vae
from tocache.demo.world.render import label_map
from tocache.generation import generate
from tocache.machine import multiplies_bfloat16
from tocache.methods import Uncached
from tocache.models.registry import family_of
from tocache.opensora import AutoencoderKLOpenSora, OpenSoraPipeline

CPU = torch.device("cpu")
TINY = Size(32, 1, 2)


@pytest.fixture(scope="module")
def video_vae_folder(tmp_path_factory: pytest.TempPathFactory, vae_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("video-vae")
    torch.manual_seed(0)
    vae = new_video_vae(AutoencoderKL.from_pretrained(vae_folder))
    vae.shift.fill_(0.25)  # as training would find them
    vae.scale.fill_(0.5)
    vae.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("latents")


@pytest.fixture(autouse=True)
def one_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "_SAMPLES", ("a red circle moving right",))


def task_of(vae: Path, cache: Path, **options: Any) -> VideoTask:
    return VideoTask(0, 4, CPU, vae=vae, cache=cache, pictures=4, side=64, size=TINY, **options)


@pytest.fixture
def task(video_vae_folder: Path, cache: Path) -> VideoTask:
    return task_of(video_vae_folder, cache)


def learn(task: Any, steps: int, rate: float = 3e-3) -> list[float]:
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=rate)
    losses = []
    for step in range(steps):
        loss = task.loss(step, torch.Generator().manual_seed(step))[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@torch.no_grad()
def test_a_temporal_autoencoder_starts_as_a_copy_of_what_stands_still(
    vae_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = AutoencoderKL.from_pretrained(vae_folder)
    still = torch.randn(4, 4, 1, 8, 8, generator=torch.Generator().manual_seed(1)).expand(-1, -1, FRAMES, -1, -1)

    def likeness() -> float:
        torch.manual_seed(0)
        vae = new_video_vae(pictures).temporal_vae
        there_and_back = vae.decode(vae.encode(still).chunk(2, dim=1)[0], FRAMES)
        return float(torch.corrcoef(torch.stack([still.flatten(), there_and_back.flatten()]))[0, 1])

    assert likeness() > 0.8
    monkeypatch.setattr(video_vae, "start_as_copy", lambda vae, channels: None)
    assert abs(likeness()) < 0.3


@torch.no_grad()
def test_a_latent_frame_starts_as_the_last_of_its_frames(vae_folder: Path) -> None:
    torch.manual_seed(0)
    vae = new_video_vae(AutoencoderKL.from_pretrained(vae_folder)).temporal_vae
    frames = torch.randn(2, 4, FRAMES, 8, 8, generator=torch.Generator().manual_seed(2))
    latents = vae.encode(frames).chunk(2, dim=1)[0]
    for group, last in enumerate((0, 4, 8)):
        likeness = [
            float(torch.corrcoef(torch.stack([latents[:, :, group].flatten(), frames[:, :, f].flatten()]))[0, 1])
            for f in range(FRAMES)
        ]
        assert max(range(FRAMES), key=lambda f: likeness[f]) == last


def test_the_video_autoencoder_keeps_that_of_the_pictures(vae_folder: Path) -> None:
    pictures = AutoencoderKL.from_pretrained(vae_folder)
    torch.testing.assert_close(new_video_vae(pictures).spatial_vae.module.state_dict(), pictures.state_dict())


def test_windows_are_cut_from_the_clips(tmp_path: Path, vae_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_vae, "SIDES", (64, 96))
    monkeypatch.setattr(video_vae, "_WIDTHS", (8, 8, 8))
    task = VideoVaeTask(0, 6, CPU, vae=vae_folder, cache=tmp_path, pictures=2)
    assert [frames.shape for frames in task.frames] == [(2, 4, FRAMES, side, side) for side in (8, 12)]
    windows = task._windows(1, torch.Generator().manual_seed(0))
    places = task.frames[1].float().unfold(3, 8, 1).unfold(4, 8, 1).permute(0, 3, 4, 1, 2, 5, 6)  # clip, row, column
    for window in windows:
        assert (places == window).flatten(3).all(dim=3).any()
    learned = learn(task, 16, 1e-2)
    assert sum(learned[-4:]) < 0.9 * sum(learned[:4])
    assert not any(p.requires_grad for p in task.vae.spatial_vae.parameters())


def test_halves_are_clips_of_half_the_side(video_vae_folder: Path, tmp_path: Path) -> None:
    task = VideoTask(0, 4, CPU, vae=video_vae_folder, cache=tmp_path, pictures=2, side=128, size=TINY, halves=6)
    seen = []
    task.transformer.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape)))
    learn(task, 4)
    assert seen == [*[(8, 4, 3, 8, 8)] * 3, (4, 4, 3, 16, 16)]
    assert task.half is not None
    assert torch.equal(task.half.labels, contents(clips(0, 0, 6), 64, CPU))
    assert task.captions == [scene.caption for scene in clips(0, 0, 6)]


def test_a_shift_multiplies_the_odds_of_noise_at_the_times_of_the_sampler(video_vae_folder: Path, cache: Path) -> None:
    def odds(**given: float) -> Tensor:
        task, seen = task_of(video_vae_folder, cache, **given), []
        task.transformer.register_forward_pre_hook(
            lambda module, args, given: seen.append(given["timestep"] / 1000), with_kwargs=True
        )
        for step in range(4):
            task.loss(step, torch.Generator().manual_seed(step))
        return torch.cat(seen) / (1 - torch.cat(seen))

    torch.testing.assert_close(odds(shift=2.5), 2.5 * odds(), rtol=1e-3, atol=1e-4)


def test_clips_captions_and_labels_belong_together(task: VideoTask) -> None:
    scenes = clips(0, 0, 4)
    assert task.captions == [scene.caption for scene in scenes]
    labels = task.whole.labels.long().reshape(4, 3, 4, 4)
    for latent, time in enumerate((0.0, 2.5 / 8, 6.5 / 8)):
        assert torch.equal(labels[:, latent], label_map(scenes, 4, time=time))
    assert torch.equal(task.whole.labels, contents(scenes, 64, CPU))
    assert not torch.equal(labels[:, 0], labels[:, 2])  # things move
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bfloat16(CPU)):
        wanted = task.vae.encode(as_video(scenes, 64, CPU), sample=False).float()
    torch.testing.assert_close(task.whole.latents.float(), wanted, atol=4e-2, rtol=2e-2)  # in half precision, twice


def test_latents_are_made_once_for_each_autoencoder(video_vae_folder: Path, tmp_path: Path) -> None:
    def files() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "latents").iterdir()}

    first = task_of(video_vae_folder, tmp_path / "latents")
    made = files()
    assert len(made) == 2
    assert "frames-0-64-0.safetensors" in made
    assert torch.equal(task_of(video_vae_folder, tmp_path / "latents").whole.latents, first.whole.latents)
    assert files() == made
    vae = AutoencoderKLOpenSora.from_pretrained(video_vae_folder)
    with torch.no_grad():
        vae.temporal_vae.quant_conv.conv.bias.add_(1.0)  # as if it was trained on
    vae.save_pretrained(tmp_path / "other")
    other = task_of(tmp_path / "other", tmp_path / "latents")
    torch.testing.assert_close(
        other.whole.latents.float(), first.whole.latents.float() + 2, atol=1e-2, rtol=1e-2
    )  # bias / scale
    assert len(files()) == 3
    assert files().items() > made.items()


def test_an_untrained_transformer_predicts_nothing(task: VideoTask) -> None:
    flow = [task.loss(0, torch.Generator().manual_seed(i))[1]["flow"] for i in range(8)]
    assert sum(flow) / 8 == pytest.approx(1 + float(task.whole.latents.float().square().mean()), rel=0.1)


def test_a_loss_depends_on_its_generator_alone(task: VideoTask) -> None:
    def loss(seed: int) -> float:
        torch.rand(3)
        return float(task.loss(0, torch.Generator().manual_seed(seed))[0].detach())

    assert loss(0) == loss(0) != loss(1)


def test_a_transformer_learns(task: VideoTask) -> None:
    losses = learn(task, 24, 1e-2)
    assert sum(losses[-6:]) < 0.85 * sum(losses[:6])


def test_a_caption_that_is_left_out_has_no_say(task: VideoTask) -> None:
    learn(task, 3, 1e-2)  # before, no caption has
    prompts = ["a red circle moving left", "a blue square moving up"]
    text = task.tokenizer(prompts, return_tensors="pt")
    noisy, times = torch.randn(1, 4, 3, 8, 8).expand(2, -1, -1, -1, -1), torch.full((2,), 500.0)

    def difference(dropped: bool) -> float:
        left_out = torch.full((2,), dropped)
        with torch.no_grad():
            velocity, _ = task.model(text.input_ids, text.attention_mask, left_out, noisy, times, times / 20)
        return float((velocity[0] - velocity[1]).abs().max())

    assert difference(True) < 1e-6
    assert difference(False) > 1e-4


class Knowing(nn.Module):
    """A transformer that knows the clip and says the velocity towards it: clip − noise, of (1 − t) clip + t noise."""

    def __init__(self, clip: Tensor) -> None:
        super().__init__()
        self.clip = clip
        self.seen: list[float] = []

    def forward(self, hidden_states: Tensor, *, timestep: Tensor, **_: Any) -> tuple[Tensor]:
        self.seen.append(float(timestep.max()))
        return ((self.clip - hidden_states) / (timestep.reshape(-1, 1, 1, 1, 1) / 1000),)


def test_the_pipeline_solves_the_flow_that_is_trained(task: VideoTask) -> None:
    pipe = task.pipeline()
    pipe.set_progress_bar_config(disable=True)
    clip = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    knowing = Knowing(clip)
    pipe.transformer.forward = knowing.forward
    size = {"height": 64, "width": 64, "num_frames": FRAMES, "clean_caption": False}
    drawn = pipe("a red circle", output_type="latent", generator=torch.Generator().manual_seed(2), **size).frames
    torch.testing.assert_close(drawn, clip, atol=1e-4, rtol=0)
    even = torch.tensor([1000 * (1 - i / 30) for i in range(30)])
    torch.testing.assert_close(torch.tensor(knowing.seen), task.scheduler.moved(even, 64, 64, FRAMES))
    assert knowing.seen[15] == pytest.approx(1000 * 3**0.5 / (1 + 3**0.5), rel=1e-3)  # √3 times the odds of a half


def test_a_run_may_begin_with_anothers_export(video_vae_folder: Path, cache: Path, tmp_path: Path) -> None:
    first = task_of(video_vae_folder, cache)
    learn(first, 2, 1e-2)
    first.export(tmp_path)
    second = task_of(video_vae_folder, cache, start=tmp_path)
    wanted, found = (
        {name: weight for name, weight in task.model.state_dict().items() if "layout" not in name}
        for task in (first, second)
    )
    torch.testing.assert_close(found, wanted)


def test_a_run_may_begin_with_the_words_and_pictures_of_another_kind(
    video_vae_folder: Path, cache: Path, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    words = new_text_encoder(new_tokenizer(), 128)
    words.save_pretrained(tmp_path / "text_encoder")
    pictures = TextToLatents(TINY, words).transformer
    pictures.save_pretrained(tmp_path / "transformer")
    task = task_of(video_vae_folder, cache, start=tmp_path)
    prompt = "a red circle moving left"
    had, has = (
        encoder(input_ids=torch.tensor([tokenizer(prompt).input_ids])).last_hidden_state
        for encoder, tokenizer in ((words.eval(), new_tokenizer()), (task.parts.text_encoder.eval(), task.tokenizer))
    )
    torch.testing.assert_close(has, had)
    assert len(task.tokenizer) == len(new_tokenizer()) + 3
    begun = task.transformer.spatial_blocks[0]
    assert torch.equal(begun.mlp.fc1.weight, pictures.transformer_blocks[0].ff.net[0].proj.weight)
    assert task.loss(0, torch.Generator().manual_seed(0))[0].isfinite()  # with rows for the score's words


def rows_of(folder: Path) -> list[list[float]]:
    with (folder / "loss.csv").open() as file:
        return [[float(value) for value in row] for row in list(csv.reader(file))[1:]]


def test_a_stopped_run_goes_on(video_vae_folder: Path, cache: Path, tmp_path: Path) -> None:
    def trainer(folder: str) -> Trainer:
        settings = Settings(3, 4, 1e-3, muon=True, autocast=False)
        task = task_of(video_vae_folder, cache)
        return Trainer(task, settings, tmp_path / folder, device=CPU, compiled=False)

    trainer("whole").run()
    assert not trainer("parts").run(minutes=0)
    assert trainer("parts").run()
    whole, parts = rows_of(tmp_path / "whole"), rows_of(tmp_path / "parts")
    assert whole[0] == parts[0]
    torch.testing.assert_close(torch.tensor(parts), torch.tensor(whole), rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, vae_folder: Path) -> Path:
    """A run of the autoencoder and one of the transformer on it, by their commands."""
    folder = tmp_path_factory.mktemp("runs")
    patch = pytest.MonkeyPatch()
    patch.setattr(video, "_SAMPLES", ("a red circle moving right",))
    patch.setattr(video_vae, "SIDES", (64,))
    patch.setattr(video_vae, "_WIDTHS", (8, 8, 8))
    small = ["--steps", "2", "--batch", "8", "--pictures", "4"]
    size = ["--side", "64", "--width", "32", "--depth", "2", "--heads", "2"]
    for arguments in (
        ["video-vae", "--out", str(folder / "vae"), "--vae", str(vae_folder), *small],
        ["video", "--out", str(folder / "video"), "--vae", str(folder / "vae" / "export"), *small, *size],
    ):
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    patch.undo()
    return folder


def test_the_autoencoders_export_normalises_its_latents(runs: Path) -> None:
    vae = AutoencoderKLOpenSora.from_pretrained(runs / "vae" / "export")
    with torch.no_grad():
        latents = vae.encode(as_video(clips(0, 0, 4), 64, CPU), sample=False)
        assert vae.decode(latents, FRAMES).shape == (4, 3, FRAMES, 64, 64)
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3, 4)), torch.zeros(4), atol=0.02, rtol=0)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3, 4)), torch.ones(4), atol=0.02, rtol=0)
    assert vae.config.latent_scale == pytest.approx(vae.scale.flatten().tolist())
    assert (runs / "vae" / "sample.png").exists()


def test_the_stock_pipeline_loads_and_draws(runs: Path) -> None:
    pipe = OpenSoraPipeline.from_pretrained(runs / "video" / "export")
    pipe.set_progress_bar_config(disable=True)
    assert (len(pipe.transformer.spatial_blocks), len(pipe.transformer.temporal_blocks)) == (2, 2)
    size = {"height": 64, "width": 64, "num_frames": FRAMES, "clean_caption": False}
    frames = pipe("a red circle moving left", num_inference_steps=2, **size).frames[0]
    assert [frame.size for frame in frames] == [(64, 64)] * FRAMES
    assert (runs / "video" / "sample.png").exists()


def test_generate_draws_a_clip_as_it_was_trained(runs: Path, tmp_path: Path) -> None:
    model = runs / "video" / "export"
    result = generate("a yellow ring moving left", output=tmp_path / "out.mp4", model=model, steps=12)
    assert [frame.size for frame in result.frames] == [(64, 64)] * FRAMES
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.video[0].average_rate == 8
    shorter = generate("x", output=tmp_path / "out.gif", model=model, steps=12, method=Uncached(), duration="5")
    assert len(shorter.frames) == 5


def test_plans_are_made_for_clips_as_they_were_trained(runs: Path) -> None:
    transformer = OpenSoraPipeline.from_pretrained(runs / "video" / "export").transformer
    shape = family_of(transformer).default_pass(transformer, pictures=1, guided=True, itemsize=2)
    assert (shape.rows, shape.grid, shape.tokens) == (2, (3, 4, 4), {"image": 48})
