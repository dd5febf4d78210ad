"""`tocache sample` and `tocache pack`: thousands of pictures, and what other tools read of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tocache.cli.errors import shown_warnings
from tocache.cli.options import AspectRatio, Device, Dtype, Duration, Guidance, Model, Resolution


def sample(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to draw into.", show_default=False)],
    model: Model = "demo:text",
    prompts: Annotated[
        Path | None, typer.Option(help='A prompt in each line; or .jsonl, objects with "prompt".', show_default=False)
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Of class-conditional models: all, or e.g. 0-9,207.", show_default=False)
    ] = None,
    num: Annotated[int | None, typer.Option(help="Pictures; prompts are repeated. Default: one of each.")] = None,
    batch: Annotated[int, typer.Option(help="Pictures of one call; part of what decides their bits.")] = 8,
    seed: Annotated[int, typer.Option(help="Of the run; each picture's own follows from it and the index.")] = 0,
    method: Annotated[str | None, typer.Option(help="As in `generate`; the default is the preset balanced.")] = None,
    interval: Annotated[int | None, typer.Option(help="Steps from one full step to the next.")] = None,
    fresh_ratio: Annotated[float | None, typer.Option(help="Share of tokens computed in between.")] = None,
    preset: Annotated[str | None, typer.Option(help="A published operating point.")] = None,
    plan: Annotated[Path | None, typer.Option("--plan", help="A plan that `plan --json` or `tune` saved.")] = None,
    resample: Annotated[bool, typer.Option("--resample", help="Stretch --plan to another number of steps.")] = False,
    steps: Annotated[int | None, typer.Option(help="The default is the preset's, plan's or model's own.")] = None,
    guidance: Guidance = None,
    device: Device = None,
    dtype: Dtype = None,
    threads: Annotated[int | None, typer.Option(help="Of a CPU, for each worker; the default is torch's.")] = None,
    resolution: Resolution = None,
    aspect_ratio: AspectRatio = None,
    duration: Duration = None,
    storage: Annotated[str | None, typer.Option(help="Keep features in 8 bits: int8 or fp8.")] = None,
    offload: Annotated[
        bool | None,
        typer.Option("--offload/--no-offload", help="Keep features in the host's memory.", show_default=False),
    ] = None,
    format: Annotated[str, typer.Option(help="png: folders of files; tar: WebDataset shards.")] = "png",
    shard: Annotated[int, typer.Option(help="Pictures of one folder or .tar.")] = 1000,
    max_skipped: Annotated[int, typer.Option(help="Prompts that may fail before the run gives up.")] = 100,
    retry_skipped: Annotated[bool, typer.Option("--retry-skipped", help="Draw those that failed before.")] = False,
    ray: Annotated[
        str | None, typer.Option(help="Draw on Ray: auto, local, or a cluster's address.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="On Ray; the default is as many as fit.", show_default=False)
    ] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(help="On Ray; 1 where there are GPUs.", show_default=False)
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            help="On Ray: seconds without an answer after which a worker counts as hung.",
            show_default="20 × the longest batch, at least 600",
        ),
    ] = None,
) -> None:
    """Draw thousands of pictures into a folder. The same command goes on where it was stopped."""
    from tocache.cli.show_sampled import sampling_bar, show_sampled
    from tocache.planning import method_from
    from tocache.sampling import Settings, choose_prompts, choose_workers
    from tocache.sampling import sample as draw

    settings = Settings(
        model=model,
        method=method_from(
            method, interval=interval, fresh_ratio=fresh_ratio, preset=preset, plan=plan, resample=resample
        ),
        steps=steps,
        guidance=guidance,
        seed=seed,
        batch=batch,
        device=device,
        dtype=dtype,
        threads=threads,
        resolution=resolution,
        aspect_ratio=aspect_ratio,
        duration=duration,
        storage=storage,
        offload=offload,
    )
    start = choose_workers(settings, ray, workers=workers, gpus_per_worker=gpus_per_worker, timeout=timeout)
    asked = choose_prompts(prompts, classes, model)
    with shown_warnings(), sampling_bar() as tell:
        sampled = draw(
            settings,
            asked,
            output,
            num=num,
            format=format,
            shard=shard,
            max_skipped=max_skipped,
            retry_skipped=retry_skipped,
            start=start,
            tell=tell,
        )
    show_sampled(sampled)
    if sampled.interrupted:
        raise KeyboardInterrupt


def pack(
    samples: Annotated[Path, typer.Argument(help="A folder that `tocache sample` drew into.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A file.npz, or a folder for .tar shards.", show_default=False)
    ],
    shard: Annotated[int, typer.Option(help="Pictures of one .tar.")] = 1000,
    partial: Annotated[bool, typer.Option("--partial", help="Pack what is there, though more was asked for.")] = False,
) -> None:
    """Pack samples: an .npz as ADM's evaluator reads it, or WebDataset shards."""
    from tocache.cli.progress import work_bar
    from tocache.cli.show_sampled import show_packed
    from tocache.sampling import pack as write

    with work_bar() as tell:
        packed = write(samples, output, shard=shard, partial=partial, tell=tell)
    show_packed(packed)
