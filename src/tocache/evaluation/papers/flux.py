"""FLUX.1-dev 1024 × 1024, 50 steps: GenEval and ImageReward."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tocache.evaluation.papers.base import HERE, Paper, Row, Step, file_need, for_each, model_need

_MODEL = "black-forest-labs/FLUX.1-dev"
_METADATA, _DRAWBENCH = "evaluation_metadata.jsonl", "DrawBench200.txt"
_COUNT = 553 * 4

_ROWS = (
    Row("no cache", "none", "--method none --steps 50", ("3719.50", "0.6752", "0.9898")),
    Row("60% steps", "steps-60", "--method none --steps 30", ("2231.70", "0.6700", "0.9739")),
    Row("50% steps", "steps-50", "--method none --steps 25", ("1859.75", "0.6656", "0.9429")),
    Row("40% steps", "steps-40", "--method none --steps 20", ("1487.80", "0.6606", "0.9317")),
    Row("FORA N = 3", "fora3", "--method fora --interval 3 --steps 50", ("1320.07", "0.6594", "0.9227")),
    Row("ToCa N = 4, r = 0.1", "n4", "--preset paper-n4", ("1263.22", "0.6748", "0.9798")),
    Row("ToCa N = 5, r = 0.1", "n5", "--preset paper-n5", ("1126.76", "0.6750", "0.9731")),
    Row("ToCa N = 6, r = 0.1", "n6", "--preset paper-n6", ("990.30", "0.6653", "0.9493")),
)


def _steps(data: Path) -> Sequence[Step]:
    sample = f"tocache sample --model {_MODEL} --guidance 3.5 --dtype bf16 --batch 1 $options"
    folder = "samples/flux/$name"
    draw = for_each(
        _ROWS,
        f"{sample} --prompts {data / _METADATA} --num {_COUNT} --seed 42 -o {folder}-geneval",
        f"tocache evaluate {folder}-geneval --export geneval=geneval/$name --prompt-file {data / _METADATA}",
        f"{sample} --prompts {data / _DRAWBENCH} --num 200 --seed 0 -o {folder}-drawbench",
        f"tocache evaluate {folder}-drawbench --export image-reward=image-reward/$name",
    )
    objects = for_each(
        _ROWS,
        "python evaluation/evaluate_images.py $HERE/geneval/$name --outfile $HERE/results/$name.jsonl "
        "--model-path DETECTOR_FOLDER",
    )
    rewards = for_each(
        _ROWS,
        "python test-benchmark.py --prompts_path $HERE/image-reward/$name/prompts.json "
        "--img_dir $HERE/image-reward/$name/generations --result_dir $HERE/image-reward/$name/results "
        "--model tocache --benchmark ImageReward-v1.0",
    )
    read = for_each(
        _ROWS,
        "tocache evaluate --import geneval=results/$name.jsonl --import image-reward=image-reward/$name/results/"
        "ImageReward-v1.0/ImageReward-v1.0-benchmark-tocache-result.json -o reports/flux/$name.json",
    )
    return [
        ("4 pictures of each of GenEval's 553 prompts, 1 of each of DrawBench's 200", [HERE, *draw]),
        ("in GenEval's checkout and environment", objects),
        ("in ImageReward's checkout and environment", rewards),
        ("both scores in one report", read),
    ]


FLUX = Paper(
    name="flux",
    title="FLUX.1-dev 1024 × 1024, 50 steps, guidance 3.5, bf16",
    source="the README of github.com/Shenyi-Z/ToCa",
    columns=("TFLOPs", "GenEval", "ImageReward"),
    rows=_ROWS,
    needs=(
        model_need(_MODEL, note="once its licence is accepted there"),
        file_need(
            _METADATA,
            "prompts/evaluation_metadata.jsonl of github.com/djghosh13/geneval",
            sha256="5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13",
        ),
        file_need(
            _DRAWBENCH,
            "it is in the root of github.com/Shenyi-Z/ToCa",
            sha256="3bf3fce1c56d5fedf1af832cfb855bd4e16bacd2e4a36c123d50d04d4fd0afb7",
        ),
    ),
    notes=(
        "GenEval, ImageReward and their weights live in environments of their own; the authors point to issue 12 of "
        "djghosh13/geneval for setting the former up.",
        "Prompts begin anew behind the last one: picture i is of prompt i mod 553, each of the four from its own seed.",
        "Published differences are small: a share near 0.67 of 2,212 pictures is uncertain by about ±0.02 (binomial); "
        "the report has the interval.",
    ),
    steps=_steps,
)
