"""VBench (Huang et al., arXiv 2311.17982): sixteen dimensions of videos.

Its prompts are `vbench/VBench_full_info.json`, a list with `prompt_en` and `dimension`, or a text file with a prompt
per line (`prompts/all_dimension.txt`, 946). Videos lie in one folder as `<prompt>-<number>.mp4`, five of each prompt,
and 25 of those of temporal flickering, since still ones are filtered out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tocache.errors import OptionError
from tocache.evaluation.tools.drawn import VIDEOS, Drawn, new_folder, read_json, write

NAME = "VBench"

# Lowest and highest value by which its scripts/constant.py normalises each dimension, and the weight in the mean.
QUALITY = {
    "subject_consistency": (0.1462, 1.0, 1.0),
    "background_consistency": (0.2615, 1.0, 1.0),
    "temporal_flickering": (0.6293, 1.0, 1.0),
    "motion_smoothness": (0.706, 0.9975, 1.0),
    "dynamic_degree": (0.0, 1.0, 0.5),
    "aesthetic_quality": (0.0, 1.0, 1.0),
    "imaging_quality": (0.0, 1.0, 1.0),
}
SEMANTIC = {
    "object_class": (0.0, 1.0, 1.0),
    "multiple_objects": (0.0, 1.0, 1.0),
    "human_action": (0.0, 1.0, 1.0),
    "color": (0.0, 1.0, 1.0),
    "spatial_relationship": (0.0, 1.0, 1.0),
    "scene": (0.0, 0.8222, 1.0),
    "appearance_style": (0.0009, 0.2855, 1.0),
    "temporal_style": (0.0, 0.364, 1.0),
    "overall_consistency": (0.0, 0.364, 1.0),
}
QUALITY_WEIGHT, SEMANTIC_WEIGHT = 4, 1
DIMENSIONS = " ".join((*QUALITY, *SEMANTIC))

_FLICKERING, _USUAL, _OF_FLICKERING = "temporal_flickering", 5, 25


def read_prompts(file: Path) -> list[str]:
    return list(_prompts(file))


def export(drawn: Drawn, folder: Path, prompt_file: Path | None) -> list[str]:
    for prompt in drawn.prompts:
        if "/" in prompt or len(f"{prompt}-00.mp4".encode()) > 255:
            raise OptionError(f"VBench names videos by their prompts; this one makes no file name: {prompt!r}")
    new_folder(folder)
    counts: dict[str, int] = {}
    for item in drawn.items():
        if item.suffix not in VIDEOS:
            raise OptionError(f"VBench reads videos ({', '.join(sorted(VIDEOS))}); {drawn.folder} holds {item.suffix}")
        write(folder / f"{item.prompt}-{item.number}{item.suffix}", item.data)
        counts[item.prompt] = item.number + 1
    lines = [
        "in VBench's environment, once for each dimension:",
        f'  for d in {DIMENSIONS}; do vbench evaluate --videos_path "{folder}" --dimension $d; done',
        "then here:",
        "  tocache evaluate --import vbench=evaluation_results -o REPORT",
    ]
    if prompt_file is not None:
        wanted = _prompts(prompt_file)
        short = [prompt for prompt, number in wanted.items() if counts.get(prompt, 0) < number]
        if short:
            more = f" and {len(short) - 1} more" if len(short) > 1 else ""
            lines.insert(0, f"too few videos of {short[0]!r}{more}; VBench scores only what is there")
    return lines


def read_results(path: Path) -> dict[str, Any]:
    """Dimensions of a folder's `*_eval_results.json`, or of one such file; Quality, Semantic and Total Score of all.

    VBench's own script counts a missing dimension as 0; here the scores that need it are left out.
    """
    files = sorted(path.rglob("*_eval_results.json")) if path.is_dir() else [path]
    if not files:
        raise OptionError(f"{path}: holds no *_eval_results.json")
    dimensions: dict[str, float] = {}
    for file in files:
        content = read_json(file)
        if not isinstance(content, dict):
            raise OptionError(f"{file}: not a result file of VBench; allowed: an object by dimension")
        for name, values in content.items():
            value = values[0] if isinstance(values, list) and values else None
            if name not in QUALITY | SEMANTIC or not isinstance(value, int | float):
                raise OptionError(f"{file}: not a result file of VBench: {name!r} is no dimension with a number")
            if name in dimensions and dimensions[name] != value:
                raise OptionError(f"{file}: {name} is {value} here and {dimensions[name]} in another file")
            dimensions[name] = float(value)
    quality, semantic = _score(dimensions, QUALITY), _score(dimensions, SEMANTIC)
    missing = [name for name in QUALITY | SEMANTIC if name not in dimensions]
    found: dict[str, Any] = {"score": None, "quality": quality, "semantic": semantic, "dimensions": dimensions}
    if quality is not None and semantic is not None:
        found["score"] = (QUALITY_WEIGHT * quality + SEMANTIC_WEIGHT * semantic) / (QUALITY_WEIGHT + SEMANTIC_WEIGHT)
    return found | ({"missing": missing} if missing else {})


def _score(dimensions: dict[str, float], of: dict[str, tuple[float, float, float]]) -> float | None:
    if not dimensions.keys() >= of.keys():
        return None
    scaled = [(dimensions[name] - low) / (high - low) * weight for name, (low, high, weight) in of.items()]
    return sum(scaled) / sum(weight for _, _, weight in of.values())


def _prompts(file: Path) -> dict[str, int]:
    """How many videos of each prompt."""
    if file.suffix.lower() == ".txt":
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(f"{file}: cannot be read: {error}") from error
        return {line: _USUAL for line in lines if line}
    rows = read_json(file)
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and row.keys() >= {"prompt_en", "dimension"} for row in rows
    ):
        raise OptionError(f"{file}: not VBench's prompts; allowed: VBench_full_info.json, or .txt")
    return {row["prompt_en"]: _OF_FLICKERING if _FLICKERING in row["dimension"] else _USUAL for row in rows}
