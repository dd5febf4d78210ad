"""Run diffusers' own fast tests of pipelines, without and with the cache: host_pipelines.py CHECKOUT [FOLDER …].

Three runs of the same tests, each in a process of its own: as they are; with `Uncached()`, a plan that computes
everything, attached to every pipeline that they make; and with a ToCa that serves most of it. The first two must pass
the same tests; the third, all but those that compare numbers with the uncached ones. FOLDERs are those of
tests/pipelines; without any, those of the pipelines that a family lists. --write adds to the table of docs/models.md.

Pipelines' tests take tokenizers and text encoders from the model hub. In its place stands a cache folder of the hub's
layout with small ones of the same classes, made here; tests that need what is not in it fail in all three runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

from models_page import PAGE, table, written

RUNS = ("none", "all-fresh", "partial")
COLUMNS = ("tests of", "as they are", "all-fresh", "partial", "attached to")
FOLDERS = (
    "allegro",
    "aura_flow",
    "bria",
    "bria_fibo",
    "chroma",
    "cogvideo",
    "cogview3",
    "cogview4",
    "consisid",
    "controlnet_flux",
    "controlnet_hunyuandit",
    "controlnet_sd3",
    "cosmos",
    "dit",
    "easyanimate",
    "flux",
    "flux2",
    "hidream_image",
    "hunyuan_image_21",
    "hunyuan_video",
    "hunyuan_video1_5",
    "hunyuandit",
    "kandinsky5",
    "latte",
    "ltx",
    "ltx2",
    "lumina2",
    "mochi",
    "omnigen",
    "pixart_alpha",
    "pixart_sigma",
    "qwenimage",
    "sana",
    "skyreels_v2",
    "stable_audio",
    "stable_diffusion_3",
    "wan",
    "z_image",
)


@dataclass
class Counts:
    """Of one folder in one run: names of the tests that passed and that did not, and pipelines that were enabled."""

    passed: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    attached: int = 0


def main() -> None:
    checkout, *words = sys.argv[1:]
    chosen = [word for word in words if word != "--write"] or FOLDERS
    rows, bad = [], []
    with tempfile.TemporaryDirectory() as hub:
        make_hub(Path(hub))
        for folder in chosen:
            one = {run: _run(Path(checkout), folder, run, Path(hub)) for run in RUNS}
            if not one["none"].passed:
                print(f"{folder:24} does not run here: {next(iter(one['none'].failed.values()), 'no tests')[:120]}")
                continue
            row = (
                f"`{folder}`",
                *(str(len(one[run].passed)) for run in RUNS),
                f"{one['all-fresh'].attached} pipelines",
            )
            print("  ".join(f"{cell:24}" for cell in row), flush=True)
            rows.append(row)
            for run in RUNS[1:]:
                for name in sorted(one["none"].passed - one[run].passed):
                    print(f"    {run}: {name}: {one[run].failed.get(name, 'did not run')[:300]}", flush=True)
                    if run == "all-fresh":
                        bad.append(name)
    if "--write" in words:
        page = PAGE.read_text(encoding="utf-8")
        kept = {row[0]: row for row in (*_rows_of(page), *rows)}
        made = table(COLUMNS, iter(kept[name] for name in sorted(kept)))
        PAGE.write_text(written(page, {"pipelines": made}), encoding="utf-8")
    sys.exit(f"fail with an all-fresh plan: {', '.join(bad)}" if bad else 0)


def _rows_of(page: str) -> list[tuple[str, ...]]:
    """What the page has of earlier runs, so that folders can be run one after the other."""
    block = page.partition("<!-- made: pipelines -->")[2].partition("<!-- end -->")[0]
    lines = [line for line in block.splitlines() if line.startswith("| `")]
    return [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines]


def _run(checkout: Path, folder: str, run: str, hub: Path) -> Counts:
    report, attached = hub / f"{folder}-{run}.xml", hub / f"{folder}-{run}.json"
    here = Path(__file__).parent
    paths = [checkout / "src", here, here.parent / "src", *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "cached_pipelines", "-p", "no:cacheprovider",
         f"tests/pipelines/{folder}", f"--junitxml={report}"],
        cwd=checkout,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(map(str, filter(None, paths))),
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_CACHE": str(hub),
            "HOST_TESTS_RUN": run,
            "HOST_TESTS_ATTACHED": str(attached),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )  # fmt: skip
    counts = Counts()
    if not report.exists():
        counts.failed[folder] = "pytest did not start"
        return counts
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').rsplit('.', 1)[-1]}.{case.get('name')}"
        broken = [child for child in case if child.tag in ("failure", "error")]
        if broken:
            counts.failed[name] = " ".join((broken[0].get("message") or "").split())
        elif case.find("skipped") is None:
            counts.passed.add(name)
    if attached.exists():
        counts.attached = json.loads(attached.read_text())
    return counts


def make_hub(folder: Path) -> None:
    """Small text encoders and tokenizers under the names that the tests ask the hub for."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5Model

    from tocache.demo.train.text_encoder import new_tokenizer

    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_ff": 37, "d_kv": 8, "num_heads": 4, "num_layers": 2, "decoder_start_token_id": 0}
    for name in ("hf-internal-testing/tiny-random-t5", "hf-internal-testing/tiny-random-umt5"):
        place = _snapshot(folder, name)
        T5Model(T5Config(vocab_size=1103, **sizes)).save_pretrained(place)
        new_tokenizer().save_pretrained(place)
    place = _snapshot(folder, "hf-internal-testing/tiny-random-clip")
    CLIPTextModel(CLIPTextConfig(vocab_size=1000, hidden_size=32, intermediate_size=37, num_hidden_layers=2,
                                 num_attention_heads=4)).save_pretrained(place)  # fmt: skip
    _clip_tokenizer(CLIPTokenizer).save_pretrained(place)


def _clip_tokenizer(kind: type) -> object:
    """Every byte a token, within a word and at its end, and the two special ones last: as the hub's small one."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return kind(vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=77)


def _snapshot(folder: Path, name: str) -> Path:
    """Where the hub's cache has the files of a repository."""
    repository = folder / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    place = repository / "snapshots" / ("0" * 40)
    place.mkdir(parents=True)
    return place


if __name__ == "__main__":
    main()
