"""ImageReward (Xu et al., arXiv 2304.05977): how people would rate a picture of a prompt.

Its prompt file is a JSON list of `{"id": …, "prompt": …}`; pictures are `<model>/<id>_<number>.png`. A text file with a
prompt per line, such as DrawBench's 200, is read as well.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tocache.errors import OptionError
from tocache.evaluation.metrics import bootstrap_interval
from tocache.evaluation.tools.drawn import Drawn, new_folder, read_json, write

NAME = "ImageReward"

MODEL = "tocache"
"""What the folder of the pictures is called, and so the model in the result file."""


def read_prompts(file: Path) -> list[str]:
    return [prompt for _, prompt in _prompts(file)]


def export(drawn: Drawn, folder: Path, prompt_file: Path | None) -> list[str]:
    counts = Counter(drawn.prompts)
    if len(set(counts.values())) > 1:
        (most, high), (least, low) = counts.most_common()[0], counts.most_common()[-1]
        raise OptionError(
            f"ImageReward needs as many pictures of each prompt; {most!r} has {high} and {least!r} has {low}"
        )
    listed = _prompts(prompt_file) if prompt_file is not None else _numbered(list(counts))
    ids = {prompt: name for name, prompt in listed}
    for prompt in counts:
        if prompt not in ids:
            raise OptionError(f"{prompt_file}: has no prompt {prompt!r}")
    new_folder(folder)
    for item in drawn.items():
        if item.suffix != ".png":
            raise OptionError(f"ImageReward's benchmark reads .png files; {drawn.folder} holds {item.suffix}")
        write(folder / "generations" / MODEL / f"{ids[item.prompt]}_{item.number}.png", item.data)
    used = [{"id": ids[prompt], "prompt": prompt} for prompt in counts]
    write(folder / "prompts.json", json.dumps(used, indent=1, ensure_ascii=False) + "\n")
    result = f"{folder}/results/ImageReward-v1.0/ImageReward-v1.0-benchmark-{MODEL}-result.json"
    return [
        "in ImageReward's checkout and environment:",
        f'  python test-benchmark.py --prompts_path "{folder}/prompts.json" --img_dir "{folder}/generations" '
        f'--result_dir "{folder}/results" --model {MODEL} --benchmark ImageReward-v1.0',
        "then here:",
        f'  tocache evaluate --import image-reward="{result}" -o REPORT',
    ]


def read_results(path: Path) -> dict[str, Any]:
    """The score is the mean over prompts of the mean reward of a prompt's pictures; the interval is over prompts."""
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise OptionError(f"{path}: not a result file of ImageReward: allowed: a list with one entry per prompt")
    means, pictures = [], 0
    for row in rows:
        rewards = _flat(row.get("rewards")) if isinstance(row, dict) else []
        if not rewards:
            raise OptionError(f"{path}: not a result file of ImageReward: an entry has no rewards")
        means.append(sum(rewards) / len(rewards))
        pictures += len(rewards)
    low, high = bootstrap_interval(means)
    return {"score": sum(means) / len(means), "low": low, "high": high, "pictures": pictures, "prompts": len(means)}


def _prompts(file: Path) -> list[tuple[str, str]]:
    """(id, prompt) each."""
    if file.suffix.lower() == ".txt":
        try:
            return _numbered([line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()])
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(f"{file}: cannot be read: {error}") from error
    rows = read_json(file)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() >= {"id", "prompt"} for row in rows):
        raise OptionError(f"{file}: not ImageReward's prompts; allowed: a list of objects with id and prompt, or .txt")
    return [(str(row["id"]), str(row["prompt"])) for row in rows]


def _numbered(prompts: list[str]) -> list[tuple[str, str]]:
    return [(f"{i:05d}", prompt) for i, prompt in enumerate(prompts)]


def _flat(values: Any) -> list[float]:
    """Rewards come as a number, a list of numbers, or a list of lists of one."""
    if isinstance(values, list):
        return [number for value in values for number in _flat(value)]
    return [float(values)] if isinstance(values, int | float) else []
