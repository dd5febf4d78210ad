"""Open-Sora 1.2, 480p 9:16, 2 s: VBench."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tocache.evaluation.papers.base import HERE, Paper, Row, Step, file_need, folder_need, for_each
from tocache.evaluation.tools.vbench import DIMENSIONS

_MODEL = "models/open-sora"
_PROMPTS, _INFO = "all_dimension.txt", "VBench_full_info.json"
_COUNT = 946 * 5

_ROWS = (
    Row("no cache", "none", "--method none --steps 30", ("3283.20", "79.13")),
    Row("Δ-DiT", "delta-dit", "--method delta-dit --steps 30", ("3166.47", "78.21")),
    Row("T-GATE", "tgate", "--method tgate --steps 30", ("2818.40", "77.61")),
    Row("PAB 1", "pab1", "--preset paper-pab1", ("2657.70", "78.51")),
    Row("PAB 2", "pab2", "--preset paper-pab2", ("2615.15", "77.64")),
    Row("PAB 3", "pab3", "--preset paper-pab3", ("2558.25", "76.95")),
    Row("50% steps", "steps-50", "--method none --steps 15", ("1641.60", "76.78")),
    Row("FORA", "fora2", "--preset paper-fora2", ("1751.32", "76.91")),
    Row("ToCa R = 80%", "r80", "--preset paper-r80-video", ("1439.70", "78.59")),
    Row("ToCa R = 85%", "r85", "--preset paper-r85-video", ("1394.03", "78.34")),
)


def _steps(data: Path) -> Sequence[Step]:
    convert = [
        'python -c "from tocache.opensora import OpenSoraPipeline as P; import torch; '
        "P.from_original('OpenSora-STDiT-v3', 'OpenSora-VAE-v1.2', 't5-v1_1-xxl', dtype=torch.bfloat16)"
        f".save_pretrained('{_MODEL}')\""
    ]
    draw = for_each(
        _ROWS,
        f"tocache sample --model {_MODEL} --prompts {data / _PROMPTS} --num {_COUNT} --resolution 480p "
        "--aspect-ratio 9:16 --duration 2s --guidance 7 --dtype bf16 --batch 1 --seed 42 $options "
        "-o samples/opensora/$name",
        f"tocache evaluate samples/opensora/$name --export vbench=vbench/$name --prompt-file {data / _INFO}",
    )
    judge = for_each(
        _ROWS,
        f"for d in {DIMENSIONS}; do vbench evaluate --videos_path $HERE/vbench/$name --dimension $d "
        "--output_path $HERE/results/$name; done",
    )
    read = for_each(_ROWS, "tocache evaluate --import vbench=results/$name -o reports/opensora/$name.json")
    return [
        ("the published checkpoints in diffusers' format", convert),
        ("5 videos of each of 946 prompts", [HERE, *draw]),
        ("in VBench's environment", judge),
        ("Quality, Semantic and Total Score", read),
    ]


OPENSORA = Paper(
    name="opensora",
    title="Open-Sora 1.2, 480p 9:16, 2 s, 30 steps, guidance 7, bf16",
    source="ToCa (arXiv 2410.05317), table 2 and poster",
    columns=("TFLOPs", "VBench, %"),
    rows=_ROWS,
    needs=(
        folder_need(_MODEL, "the first command makes it of hpcai-tech/OpenSora-STDiT-v3, OpenSora-VAE-v1.2 and T5"),
        file_need(
            _PROMPTS,
            "prompts/all_dimension.txt of github.com/Vchitect/VBench",
            sha256="f9b50654f81ab732b9235d5bb91f0c3a4d152fac19249ce3a3a9185b2d80d8c3",
        ),
        file_need(
            _INFO,
            "vbench/VBench_full_info.json of github.com/Vchitect/VBench",
            sha256="5dd2de80ee43cda750b2b72ea7023657c0b90d3702041c7e4608c65dbe50dccd",
        ),
    ),
    notes=(
        "The published script draws 5 videos of every prompt, also of those of temporal flickering, of which VBench "
        "asks for 25; the export says so.",
        "VBench runs in its own environment and needs a GPU.",
        "Of Δ-DiT and T-GATE the settings behind the published rows are not known; here they run at their defaults, "
        "whose FLOPs differ from the table's.",
    ),
    steps=_steps,
)
