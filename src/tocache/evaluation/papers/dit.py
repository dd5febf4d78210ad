"""DiT-XL/2 on ImageNet 256 × 256: DDIM, 50 steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tocache.evaluation.papers.base import Paper, Row, Step, file_need, for_each, inception_need, model_need

_MODEL = "facebook/DiT-XL-2-256"
_REFERENCE = "VIRTUAL_imagenet256_labeled.npz"

_ROWS = (
    Row("no cache", "none", "--method none", ("23.74", "2.43", "4.40", "0.80", "241.25")),
    Row("Δ-DiT N = 3", "delta-dit3", "--method delta-dit --interval 3", ("16.46", "3.75", "5.70", "0.77", "207.57")),
    Row("FORA N = 3", "fora3", "--preset paper-fora3", ("8.59", "3.88", "6.43", "0.79", "229.02")),
    Row("ToCa N = 3, r = 0.07", "toca", "--preset paper-ddim50", ("10.23", "3.04", "5.14", "0.79", "230.70")),
)


def _steps(data: Path) -> Sequence[Step]:
    folder = "samples/dit/$name"
    lines = for_each(
        _ROWS,
        f"tocache sample --model {_MODEL} --classes all --num 50000 --steps 50 --guidance 1.5 --dtype fp32 --batch 50 "
        f"--seed 0 $options -o {folder}",
        f"tocache evaluate {folder} --reference {data / _REFERENCE} --metrics fid,sfid,is,precision,recall "
        "-o reports/dit/$name.json",
    )
    check = [
        "tocache pack samples/dit/none -o samples/dit/none.npz",
        f"python evaluator.py {data / _REFERENCE} samples/dit/none.npz   # in guided-diffusion/evaluations",
    ]
    return [
        ("50,000 pictures, 50 of each class, and ADM's metrics", lines),
        ("if wished, the same pictures by ADM's own evaluator", check),
    ]


DIT = Paper(
    name="dit",
    title="DiT-XL/2 256 × 256, DDIM 50 steps, guidance 1.5, float32",
    source="as quoted in ProCache's tables; the settings are those of ToCa (arXiv 2410.05317) and its code",
    columns=("TFLOPs", "FID", "sFID", "precision", "IS"),
    rows=_ROWS,
    needs=(
        model_need(_MODEL),
        file_need(
            _REFERENCE,
            "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/imagenet/256/" + _REFERENCE,
            arrays=("mu", "arr_0"),
        ),
        inception_need(),
    ),
    notes=(
        "The reference has statistics of ImageNet's training set and 10,000 of its pictures, which make the manifold "
        "of precision and recall; ADM's evaluator computes their distances in half precision, here they are float32.",
        "The published sampler draws classes at random, here each comes 50 times.",
        "It guides 3 of the 4 latent channels, diffusers' DiTPipeline all 4.",
        "Its 50 timesteps are 999 i ÷ 49, rounded; diffusers' DDIMScheduler takes every 20th by default.",
        "DDPM with 250 steps: give the pipeline a DDPMScheduler, save it, and sample with --preset paper-ddpm250; "
        "diffusers' DiTPipeline leaves out the learned variance that the published sampler uses.",
    ),
    steps=_steps,
)
