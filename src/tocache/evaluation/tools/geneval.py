"""GenEval (Ghosh et al., arXiv 2310.11513): objects, counts, colours and places, judged by a detector.

Its prompts are `prompts/evaluation_metadata.jsonl`: 553 of six tasks, four pictures each. Its folder has one numbered
folder per prompt, with the prompt's line as `metadata.jsonl` and the pictures as `samples/0000.png`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from tocache.errors import OptionError
from tocache.evaluation.sets.intervals import interval_around
from tocache.evaluation.tools.drawn import Drawn, new_folder, read_json_lines, write

NAME = "GenEval"

_KEYS = frozenset({"tag", "prompt"})


def read_prompts(file: Path) -> list[str]:
    return [row["prompt"] for row in _metadata(file)]


def export(drawn: Drawn, folder: Path, prompt_file: Path | None) -> list[str]:
    if prompt_file is None:
        raise OptionError("GenEval needs its prompts/evaluation_metadata.jsonl; --prompt-file says where it is")
    metadata = _metadata(prompt_file)
    numbers = {row["prompt"]: i for i, row in enumerate(metadata)}
    for prompt in drawn.prompts:
        if prompt not in numbers:
            raise OptionError(f"{prompt_file}: has no prompt {prompt!r}")
    new_folder(folder)
    counts: dict[str, int] = defaultdict(int)
    for item in drawn.items():
        if item.suffix != ".png":
            raise OptionError(f"GenEval reads .png files; {drawn.folder} holds {item.suffix}")
        write(folder / f"{numbers[item.prompt]:05d}" / "samples" / f"{item.number:04d}.png", item.data)
        counts[item.prompt] += 1
    for prompt in counts:
        write(folder / f"{numbers[prompt]:05d}" / "metadata.jsonl", json.dumps(metadata[numbers[prompt]]) + "\n")
    lines = [
        "in GenEval's checkout and environment:",
        f'  python evaluation/evaluate_images.py "{folder}" --outfile geneval.jsonl --model-path DETECTOR_FOLDER',
        "then here:",
        "  tocache evaluate --import geneval=geneval.jsonl -o REPORT",
    ]
    missing = len(metadata) - len(counts)
    few = sum(count < 4 for count in counts.values())
    if missing or few:
        lines.insert(0, f"{missing} of {len(metadata)} prompts have no picture, {few} fewer than the usual 4")
    return lines


def read_results(path: Path) -> dict[str, Any]:
    """The overall score is the mean over tasks of the share of correct pictures, as its `summary_scores.py` has it.

    The interval is a bootstrap over prompts.
    """
    rows = read_json_lines(path)
    for row in rows:
        if not row.keys() >= {"tag", "prompt", "correct"}:
            raise OptionError(f"{path}: not a result file of GenEval: a line has no tag, prompt or correct")
    if not rows:
        raise OptionError(f"{path}: holds no results")
    by_task: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by_task[row["tag"]][row["prompt"]].append(float(row["correct"]))
    tasks = {tag: _mean([c for correct in prompts.values() for c in correct]) for tag, prompts in by_task.items()}
    score, total = _mean(list(tasks.values())), sum(map(len, by_task.values()))
    pulls = []
    for tag, prompts in by_task.items():
        pictures = sum(map(len, prompts.values()))
        for correct in prompts.values():
            pulls.append(total / len(tasks) * sum(c - tasks[tag] for c in correct) / pictures)
    low, high = interval_around(score, torch.tensor(pulls, dtype=torch.float64))
    return {"score": score, "low": low, "high": high, "tasks": tasks, "pictures": len(rows), "prompts": total}


def _metadata(file: Path) -> list[dict[str, Any]]:
    rows = read_json_lines(file)
    if not rows or not all(row.keys() >= _KEYS for row in rows):
        raise OptionError(f"{file}: not GenEval's prompts: each line needs a tag and a prompt")
    return rows


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
