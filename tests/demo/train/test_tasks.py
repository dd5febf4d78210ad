"""What is trained: each task makes steps, learns, and exports what stock diffusers loads and draws with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DiTPipeline, PixArtAlphaPipeline
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from typer.testing import CliRunner

from tocache.demo.judge import CELLS, Judge, Seen
from tocache.demo.train import judge as judge_module
from tocache.demo.train import vae as vae_module
from tocache.demo.train.__main__ import app
from tocache.demo.train.classes import ClassTask, new_scheduler, sample_latents
from tocache.demo.train.judge import JudgeTask, accuracy, disturbed, reads_right, targets
from tocache.demo.train.latent_task import Size
from tocache.demo.train.pictures import save_grid
from tocache.demo.train.text import TextTask
from tocache.demo.train.vae import LATENT_CHANNELS, VaeTask, new_vae, normalise_latents
from tocache.demo.world.render import label_map, render
from tocache.demo.world.scene import Scene, draw_scene

CPU = torch.device("cpu")
SMALL = ["--width", "32", "--depth", "2", "--heads", "2", "--pictures", "8", "--side", "128", "--batch", "8"]


def train(*arguments: object) -> None:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def class_task(vae_folder: Path, cache: Path, **options: Any) -> ClassTask:
    sizes = {"pictures": 8, "side": 128, "size": Size(32, 2, 2)}
    return ClassTask(0, 8, CPU, vae=vae_folder, cache=cache, **sizes | options)


def text_task(vae_folder: Path, cache: Path, **options: Any) -> TextTask:
    sizes = {"pictures": 8, "side": 128, "size": Size(32, 2, 2)}
    return TextTask(0, 8, CPU, vae=vae_folder, cache=cache, **sizes | options)


def times_of(task: Any) -> Tensor:
    """The timesteps that the transformer is given in one step, from 0 to 1000."""
    seen: list[Tensor] = []
    hook = task.transformer.register_forward_pre_hook(
        lambda module, args, given: seen.append(given["timestep"].detach().float()), with_kwargs=True
    )
    task.loss(0, torch.Generator().manual_seed(0))
    hook.remove()
    return torch.cat(seen)


def losses_of(task: Any, steps: int, rate: float) -> list[float]:
    """The losses of some steps of plain AdamW."""
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=rate)
    losses = []
    for step in range(steps):
        loss = task.loss(step, torch.Generator().manual_seed(step))[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_text_keeps_the_encoder_that_has_read_before(tmp_path: Path, vae_folder: Path) -> None:
    train("words", "--out", tmp_path / "words", "--batch", 8, "--steps", 2)
    words = tmp_path / "words" / "export"
    train("text", "--out", tmp_path / "run", "--vae", vae_folder, "--words", words, *SMALL, "--steps", 2)
    pipe = PixArtAlphaPipeline.from_pretrained(tmp_path / "run" / "export")
    read, kept = load_file(words / "text_encoder" / "model.safetensors"), pipe.text_encoder.state_dict()
    for name, weight in kept.items():  # the rows that only clips' captions need are gone
        torch.testing.assert_close(weight, read.get(name, read["shared.weight"])[: len(weight)])


def test_class_runs_to_a_pipeline(tmp_path: Path, vae_folder: Path) -> None:
    train("class", "--out", tmp_path / "run", "--vae", vae_folder, *SMALL, "--steps", 3)
    pipe = DiTPipeline.from_pretrained(tmp_path / "run" / "export")
    pipe.set_progress_bar_config(disable=True)
    assert pipe.get_label_ids(["0", "7"]) == [0, 7]
    table = pipe.transformer.transformer_blocks[0].norm1.emb.class_embedder.embedding_table
    assert table.num_embeddings == 1001  # with the pipeline's null class
    images = pipe([3, 4], num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images
    assert [image.size for image in images] == [(256, 256)] * 2
    assert np.asarray(images[0]).std() > 1
    with Image.open(tmp_path / "run" / "sample.png") as sample:
        assert sample.size == (5 * 224, 2 * 224)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["pictures seen"] == 24


def test_text_runs_to_a_pipeline(tmp_path: Path, vae_folder: Path) -> None:
    train("text", "--out", tmp_path / "run", "--vae", vae_folder, *SMALL, "--steps", 3)
    pipe = PixArtAlphaPipeline.from_pretrained(tmp_path / "run" / "export")
    pipe.set_progress_bar_config(disable=True)
    images = pipe("a red circle", num_inference_steps=2, clean_caption=False).images
    assert images[0].size == (256, 256)
    assert pipe.transformer.config.num_layers == 2
    with Image.open(tmp_path / "run" / "sample.png") as sample:
        assert sample.size == (4 * 256, 2 * 256)


@pytest.mark.parametrize(("make", "part"), [(class_task, "transformer"), (text_task, "transformer")])
def test_a_run_may_begin_with_anothers_export(
    tmp_path: Path, vae_folder: Path, make: Callable[..., Any], part: str
) -> None:
    first = make(vae_folder, tmp_path / "latents")
    losses_of(first, 2, 1e-2)
    first.export(tmp_path / "export")
    second = make(vae_folder, tmp_path / "latents", start=tmp_path / "export")
    wanted = {name: weight for name, weight in first.model.state_dict().items() if "layout" not in name}
    found = {name: weight for name, weight in second.model.state_dict().items() if "layout" not in name}
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("make", [class_task, text_task])
def test_three_of_four_steps_learn_from_twice_as_many_pictures_of_half_the_side(
    tmp_path: Path, vae_folder: Path, make: Callable[..., Any]
) -> None:
    task = make(vae_folder, tmp_path, halves=12)
    seen = []
    task.transformer.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape)))
    losses_of(task, 8, 1e-3)
    assert seen == [*[(16, 4, 8, 8)] * 3, (8, 4, 16, 16)] * 2
    assert [task.seen(steps) for steps in range(9)] == [sum(x[0] for x in seen[:steps]) for steps in range(9)]
    assert (len(task.half.latents), len(task.whole.latents)) == (12, 8)
    assert make(vae_folder, tmp_path).seen(5) == 40
    alone = make(vae_folder, tmp_path / "alone", pictures=12, side=64)
    assert torch.equal(task.half.latents, alone.whole.latents)
    assert torch.equal(task.half.labels, alone.whole.labels)


@pytest.mark.parametrize("make", [class_task, text_task])
def test_a_shift_multiplies_the_odds_of_noise_at_the_times_that_are_learned(
    tmp_path: Path, vae_folder: Path, make: Callable[..., Any]
) -> None:
    usual, shifted = (times_of(make(vae_folder, tmp_path, **given)) / 1000 for given in ({}, {"shift": 3.0}))
    odds, wanted = shifted / (1 - shifted), 3 * usual / (1 - usual)
    torch.testing.assert_close(odds, wanted, rtol=0.03, atol=0.02)  # the discrete times of a class are rounded
    assert (shifted - usual).max() > 0.2


@pytest.mark.parametrize(("make", "steps"), [(class_task, 40), (text_task, 40)])
def test_transformers_learn(tmp_path: Path, vae_folder: Path, make: Callable[..., Any], steps: int) -> None:
    losses = losses_of(make(vae_folder, tmp_path), steps, 3e-3)
    assert sum(losses[-10:]) < 0.85 * sum(losses[:10])


@pytest.mark.parametrize("make", [class_task, text_task])
def test_a_loss_depends_on_its_generator_alone(tmp_path: Path, vae_folder: Path, make: Callable[..., Any]) -> None:
    task = make(vae_folder, tmp_path)

    def loss(seed: int) -> float:
        torch.rand(3)
        return float(task.loss(0, torch.Generator().manual_seed(seed))[0].detach())

    assert loss(0) == loss(0) != loss(1)


def test_untrained_transformers_predict_nothing(tmp_path: Path, vae_folder: Path) -> None:
    """Losses begin as the variance of what is to be predicted; of a velocity of the flow, noise and picture."""
    task = text_task(vae_folder, tmp_path)
    flow = [task.loss(0, torch.Generator().manual_seed(i))[1]["flow"] for i in range(8)]
    assert np.mean(flow) == pytest.approx(1 + float(task.whole.latents.float().square().mean()), rel=0.05)


class Knowing(nn.Module):
    """A transformer that knows the picture and says the velocity towards it: noise − picture of x = (1 − σ) p + σ n."""

    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        self.picture = picture
        self.seen: list[float] = []

    def forward(self, hidden_states: Tensor, *, timestep: Tensor, **_: Any) -> tuple[Tensor]:
        sigma = timestep.reshape(-1, 1, 1, 1) / 1000
        self.seen.append(float(sigma.max()))
        return ((hidden_states - self.picture) / sigma,)


def test_the_text_pipeline_solves_the_flow_that_is_trained(tmp_path: Path, vae_folder: Path) -> None:
    pipe = text_task(vae_folder, tmp_path).pipeline()
    pipe.set_progress_bar_config(disable=True)
    picture = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    knowing = Knowing(picture)
    pipe.transformer.forward = knowing.forward
    arguments = {"height": 64, "width": 64, "use_resolution_binning": False, "clean_caption": False}
    drawn = pipe("a red circle", output_type="latent", generator=torch.Generator().manual_seed(2), **arguments).images
    torch.testing.assert_close(drawn, picture, atol=0.02, rtol=0)  # the scheduler cuts times to whole thousandths
    assert len(knowing.seen) == 20
    assert knowing.seen == sorted(knowing.seen, reverse=True)
    assert 0.99 < knowing.seen[0] <= 1


def test_the_class_sampler_solves_the_diffusion_that_is_trained() -> None:
    """x = α p + σ n, velocity α n − σ p (Salimans & Ho, arXiv 2202.00512, appendix D); the first x is noise alone."""
    scheduler = new_scheduler()
    assert scheduler.alphas_cumprod[-1] == 0
    picture = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    times: list[int] = []

    def velocity(x: Tensor, timestep: Tensor, class_labels: Tensor, return_dict: bool) -> tuple[Tensor]:
        assert class_labels.tolist() == [3, 4, 1000, 1000]
        times.append(int(timestep[0]))
        alpha = scheduler.alphas_cumprod[timestep].sqrt()[:, None, None, None]
        sigma = (1 - alpha**2).sqrt()
        both = torch.cat([picture, picture])
        return (alpha * (x - alpha * both) / sigma - sigma * both,)

    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    drawn = sample_latents(velocity, scheduler, noise, torch.tensor([3, 4]))  # type: ignore[arg-type]
    torch.testing.assert_close(drawn, picture, atol=1e-4, rtol=0)
    assert times[0] == 999
    assert len(times) == 50


def test_samples_are_what_the_class_pipeline_draws(tmp_path: Path, vae_folder: Path) -> None:
    task = class_task(vae_folder, tmp_path)
    losses_of(task, 3, 1e-2)  # so that it draws something
    pipe = task.pipeline()
    pipe.set_progress_bar_config(disable=True)
    noise = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    latents = sample_latents(task.transformer, task.scheduler, noise, torch.tensor([3, 4]), steps=4)
    with torch.inference_mode():
        wanted = (task.vae.decode(latents).sample / 2 + 0.5).clamp(0, 1)
    options = {"num_inference_steps": 4, "output_type": "np", "generator": torch.Generator().manual_seed(0)}
    drawn = torch.as_tensor(pipe([3, 4], **options).images).permute(0, 3, 1, 2)
    torch.testing.assert_close(drawn, wanted, atol=1e-4, rtol=0)


def test_pictures_captions_and_labels_of_text_belong_together(tmp_path: Path, vae_folder: Path) -> None:
    task = text_task(vae_folder, tmp_path)
    scenes = [draw_scene(0, i) for i in range(8)]
    assert task.captions == [scene.caption for scene in scenes]
    assert torch.equal(task.whole.labels.long(), label_map(scenes, 8).flatten(1))
    with torch.no_grad():
        wanted = task.vae.encode(2 * render(scenes, 128) - 1).latent_dist.mean
    torch.testing.assert_close(task.whole.latents.float(), wanted, atol=3e-2, rtol=2e-2)  # perhaps made in bfloat16


@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_normalised_latents_have_mean_0_and_variance_1_and_pictures_stay(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    vae = new_vae().eval()
    for conv in (vae.quant_conv, vae.post_quant_conv):  # biases that an untrained model does not have
        conv.bias.copy_(torch.randn(conv.bias.shape, generator=generator))
    x = 2 * torch.rand(6, 3, 64, 64, generator=generator) - 1
    before = vae.encode(x).latent_dist
    picture = vae.decode(before.mean).sample
    normalise_latents(vae, before.mean.mean(dim=(0, 2, 3)), before.mean.std(dim=(0, 2, 3)))
    after = vae.encode(x).latent_dist
    torch.testing.assert_close(after.mean.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(after.mean.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(vae.decode(after.mean).sample, picture, atol=1e-4, rtol=1e-3)
    # the noise is as large beside the latents as it was
    scale = before.mean.std(dim=(0, 2, 3))[None, :, None, None]
    torch.testing.assert_close(after.std * scale, before.std, atol=1e-5, rtol=1e-3)


@torch.no_grad()
def test_an_autoencoder_starts_as_a_copy() -> None:
    """Without noise on that path, the first channels are the picture, shrunk on the way in, enlarged on the way out."""
    torch.manual_seed(0)
    vae = new_vae().eval()
    vae_module._start_as_copy(vae, share=0.0)
    for module in vae.modules():
        if isinstance(module, ResnetBlock2D):  # what they add beside the path
            module.conv2.weight.zero_()
            module.conv2.bias.zero_()
    x = 2 * render([draw_scene(0, i) for i in range(2)], 64) - 1
    inward = vae.encoder.conv_in(x)
    for block in vae.encoder.down_blocks:
        inward = block(inward)
    torch.testing.assert_close(inward[:, :3], F.avg_pool2d(x, 8), atol=1e-5, rtol=0)
    z = torch.randn(2, LATENT_CHANNELS, 4, 4, generator=torch.Generator().manual_seed(0))
    outward = vae.decoder.conv_in(z)
    for block in vae.decoder.up_blocks:
        outward = block(outward)
    torch.testing.assert_close(outward[:, :4], F.interpolate(z, scale_factor=8.0), atol=1e-5, rtol=0)


@torch.no_grad()
def test_with_its_usual_noise_more_of_a_picture_gets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    x = 2 * render([draw_scene(5, i) for i in range(12)], 64) - 1
    small = F.avg_pool2d(x, 8).permute(0, 2, 3, 1).flatten(0, 2)

    def explained() -> float:
        """Share of the colours' variance that a linear map of the latents gives."""
        torch.manual_seed(0)
        latents = new_vae().eval().encode(x).latent_dist.mean.permute(0, 2, 3, 1).flatten(0, 2)
        known = torch.cat([latents, torch.ones(len(latents), 1)], dim=1)
        rest = small - known @ torch.linalg.lstsq(known, small).solution
        return 1 - float(rest.square().sum() / (small - small.mean(0)).square().sum())

    with_copy = explained()
    monkeypatch.setattr(vae_module, "_start_as_copy", lambda vae: None)
    assert with_copy > 3 * explained()


def test_autoencoders_have_no_layer_that_the_copy_forgets() -> None:
    vae = new_vae()
    kinds = (ResnetBlock2D, Downsample2D, Upsample2D)
    known = {id(p) for m in vae.modules() if isinstance(m, kinds) for p in m.parameters()}
    names = [name for name, p in vae.named_parameters() if id(p) not in known]
    parts = {".".join(name.split(".")[:2]) for name in names}
    norms = {"encoder.conv_norm_out", "decoder.conv_norm_out"}
    ends = {f"{side}.conv_{end}" for side in ("encoder", "decoder") for end in ("in", "out")}
    assert parts == norms | ends | {
        f"{name}.{kind}" for name in ("quant_conv", "post_quant_conv") for kind in ("weight", "bias")
    }


def test_vae_crops_show_things_and_digits() -> None:
    """Two of four crops of a scene are around its first thing; they are cut from the pictures of this step."""
    task = VaeTask(0, 32, CPU)  # 8 pictures, 2 of them digits
    crops = task._crops(0, torch.Generator().manual_seed(0))
    assert crops.shape == (32, 3, 64, 64)
    pictures = torch.cat([task._pictures(0, 6, 256), task._digits(0, 2, 256)])
    for i, crop in enumerate(crops):
        windows = pictures[i // 4].unfold(1, 64, 1).unfold(2, 64, 1)[:, :, :, 0, 0]  # first pixels of all crops
        corners = (windows == crop[:, 0, 0, None, None]).all(dim=0).nonzero().tolist()
        assert any(torch.equal(pictures[i // 4][:, y : y + 64, x : x + 64], crop) for y, x in corners)


@pytest.mark.slow
def test_vae_learns() -> None:
    task = VaeTask(0, 16, CPU)
    vae_losses = losses_of(task, 6, 2e-3)
    assert min(vae_losses[-2:]) < 0.9 * vae_losses[0]
    figures = task.loss(6, torch.Generator().manual_seed(6))[1]
    assert figures.keys() == {"pixels", "kl"}


@pytest.mark.parametrize("batch", [8, 15])
def test_vae_batches_without_a_digit_are_refused(tmp_path: Path, batch: int) -> None:
    result = CliRunner().invoke(app, ["vae", "--out", str(tmp_path), "--batch", str(batch)])
    assert result.exit_code == 2
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_vae_runs_to_an_autoencoder(tmp_path: Path) -> None:
    train("vae", "--out", tmp_path / "run", "--steps", 1, "--batch", 16)
    vae = AutoencoderKL.from_pretrained(tmp_path / "run" / "export")
    assert vae.config.scaling_factor == 1
    x = 2 * render([draw_scene(0, 2**41 + i) for i in range(64)], 256) - 1
    with torch.no_grad():
        latents = torch.cat([vae.encode(part).latent_dist.mean for part in x.split(8)])
        assert latents.shape == (64, LATENT_CHANNELS, 32, 32)
        assert vae.decode(latents[:1]).sample.shape == (1, 3, 256, 256)
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=0.01, rtol=0)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3)), torch.ones(4), atol=0.01, rtol=0)
    assert (tmp_path / "run" / "sample.png").exists()


def test_judge_runs_to_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def share(judge: Judge, seed: int, count: int, device: torch.device) -> float:
        asked.append(count)
        return 0.5

    monkeypatch.setattr(judge_module, "accuracy", share)
    monkeypatch.setattr(judge_module, "digit_accuracy", share)
    train("judge", "--out", tmp_path / "run", "--steps", 2, "--batch", 8)
    weights = load_file(tmp_path / "run" / "export" / "judge.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}
    Judge().load_state_dict({name: weight.float() for name, weight in weights.items()})
    assert asked == [512, 512]


@pytest.mark.slow
def test_judge_learns() -> None:
    losses = losses_of(JudgeTask(0, 16, CPU), 12, 3e-3)
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


@given(seed=st.integers(0, 2**32), index=st.integers(0, 2**41))
@settings(deadline=None, max_examples=50)
def test_targets_of_the_judge(seed: int, index: int) -> None:
    scenes = [draw_scene(seed, index + i) for i in range(3)]
    target, weight, where, truth = targets(scenes, CPU)
    things = [(b, thing) for b, scene in enumerate(scenes) for thing in scene.things]
    assert target.sum() == len(things) == len(where) == len(truth)
    rows = torch.arange(CELLS)
    for (b, thing), (picture, row, column), numbers in zip(things, where.tolist(), truth.tolist(), strict=True):
        assert (picture, target[b, row, column], weight[b, row, column]) == (b, 1, 1)
        # from cell and offset back to the place; a place in its own cell
        assert ((column + 0.5 + numbers[2]) / CELLS, (row + 0.5 + numbers[3]) / CELLS) == pytest.approx(
            (thing.x, thing.y)
        )
        assert max(map(abs, numbers[2:4])) <= 0.5 + 1e-5
        assert numbers[4] / CELLS == pytest.approx(thing.radius)
    for b, scene in enumerate(scenes):
        near = torch.zeros(CELLS, CELLS, dtype=torch.bool)
        for thing in scene.things:
            beside_y, beside_x = (rows - int(thing.y * CELLS)).abs() <= 1, (rows - int(thing.x * CELLS)).abs() <= 1
            near |= beside_y[:, None] & beside_x[None]
        assert torch.equal(weight[b] == 0, near & (target[b] == 0))


def test_disturbed_pictures_stay_pictures_and_alike() -> None:
    x = render([draw_scene(0, i) for i in range(16)], 64)
    y = disturbed(x, torch.Generator().manual_seed(0))
    assert torch.equal(y, disturbed(x, torch.Generator().manual_seed(0)))
    assert 0 <= y.min() <= y.max() <= 1
    difference = (y - x).abs().mean(dim=(1, 2, 3))
    assert difference.min() > 0.002
    assert difference.max() < 0.2


def test_reading_right_is_all_or_nothing() -> None:
    scene = next(s for s in (draw_scene(0, i) for i in range(100)) if len(s.things) == 2)
    truth = [Seen(t.shape, t.colour, t.x, t.y, t.radius, 1.0) for t in scene.things]
    assert reads_right(scene, truth)
    assert reads_right(scene, truth[::-1])
    assert not reads_right(scene, truth[:1])
    assert not reads_right(scene, [*truth, truth[0]])
    other = "red" if truth[0].colour != "red" else "blue"
    for change in ({"colour": other}, {"shape": "none"}, {"x": truth[0].x + 0.05}, {"radius": truth[0].radius + 0.05}):
        assert not reads_right(scene, [replace(truth[0], **change), truth[1]])
    assert reads_right(scene, [replace(truth[0], x=truth[0].x + 0.03), truth[1]])


def test_accuracy_is_the_share_of_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that is blind for scenes whose first thing is red; all of them are held out from training."""
    shown: list[Scene] = []

    def painted(scenes: list[Scene], side: int, device: torch.device) -> SimpleNamespace:
        shown.extend(scenes)
        return SimpleNamespace(scenes=scenes)

    def look(pictures: SimpleNamespace, judge: Judge) -> list[list[Seen]]:
        return [
            [Seen(t.shape, t.colour, t.x, t.y, t.radius, 1.0) for t in s.things] if s.things[0].colour != "red" else []
            for s in pictures.scenes
        ]

    monkeypatch.setattr(judge_module, "render", painted)
    monkeypatch.setattr(judge_module, "look", look)
    found = accuracy(Judge(), 3, 100, CPU, batch=64)
    assert shown == [draw_scene(3, judge_module.HELD_OUT + i) for i in range(100)]
    assert found == sum(scene.things[0].colour != "red" for scene in shown) / 100


def test_grids_hold_the_pictures_in_order(tmp_path: Path) -> None:
    shades = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])
    pictures = shades[:, None, None, None].expand(5, 3, 8, 8)
    save_grid(pictures, tmp_path / "grid.png", columns=3, side=16)
    with Image.open(tmp_path / "grid.png") as image:
        pixels = np.asarray(image)
    assert pixels.shape == (32, 48, 3)
    middles = pixels[8::16, 8::16, 0].flatten()
    assert middles.tolist() == [0, 64, 128, 191, 255, 255]  # and white where there is none
