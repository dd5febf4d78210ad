"""Exports and imports: the layouts and result files that the benchmarks' own code reads and writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tocache.errors import OptionError, UnknownNameError
from tocache.evaluation.sets.report import Report, write_report
from tocache.evaluation.tools import TOOLS, geneval, hps, image_reward, tool, vbench
from tocache.evaluation.tools.drawn import Drawn, open_drawn
from tocache.evaluation.tools.exchange import export_to, import_from, write_prompts


def draw(folder: Path, prompts: list[str], suffix: str = ".png") -> Drawn:
    """As many files as prompts, each of its own content."""
    folder.mkdir(parents=True)
    for i in range(len(prompts)):
        if suffix == ".png":
            Image.new("RGB", (4, 4), (i, 0, 0)).save(folder / f"{i:04d}.png")
        else:
            (folder / f"{i:04d}{suffix}").write_bytes(b"video %d" % i)
    return open_drawn(folder, prompts)


def red(path: Path) -> int:
    with Image.open(path) as picture:
        return int(np.asarray(picture)[0, 0, 0])


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


class TestGenEval:
    metadata = (
        {"tag": "counting", "include": [{"class": "cow", "count": 2}], "prompt": "two cows"},
        {"tag": "colors", "include": [{"class": "cow", "color": "red", "count": 1}], "prompt": "a red cow"},
        {"tag": "colors", "include": [{"class": "cow", "color": "blue", "count": 1}], "prompt": "a blue cow"},
    )

    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "evaluation_metadata.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in self.metadata))
        return path

    def test_each_prompt_has_a_numbered_folder_with_its_line_and_its_pictures(self, tmp_path: Path) -> None:
        drawn = draw(tmp_path / "drawn", ["a red cow", "two cows", "a red cow"])
        lines = geneval.export(drawn, tmp_path / "out", self.file(tmp_path))
        assert tree(tmp_path / "out") == [
            "00000/metadata.jsonl",
            "00000/samples/0000.png",
            "00001/metadata.jsonl",
            "00001/samples/0000.png",
            "00001/samples/0001.png",
        ]
        assert [red(tmp_path / "out/00001/samples" / name) for name in ("0000.png", "0001.png")] == [0, 2]
        assert json.loads((tmp_path / "out/00001/metadata.jsonl").read_text()) == self.metadata[1]
        assert lines[0] == "1 of 3 prompts have no picture, 2 fewer than the usual 4"

    def test_the_score_is_the_mean_over_tasks(self, tmp_path: Path) -> None:
        """As its summary_scores.py: tasks of unequal size weigh the same."""
        rows = [
            ("counting", "two cows", [1, 0, 0, 0]),
            ("colors", "a red cow", [1, 1]),
            ("colors", "a blue cow", [0, 1]),
        ]
        lines = [
            {
                "filename": f"{i}.png",
                "tag": tag,
                "prompt": prompt,
                "correct": bool(correct),
                "reason": "",
                "metadata": "",
            }
            for tag, prompt, all_correct in rows
            for i, correct in enumerate(all_correct)
        ]
        path = tmp_path / "results.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        found = geneval.read_results(path)
        assert found["tasks"] == {"counting": 0.25, "colors": 0.75}
        assert found["score"] == pytest.approx(0.5)
        assert found["low"] < 0.5 < found["high"]
        assert (found["pictures"], found["prompts"]) == (8, 3)

    def test_the_interval_is_that_of_prompts_drawn_anew(self, tmp_path: Path) -> None:
        dice = np.random.default_rng(0)
        lines, tasks = [], {}
        for tag, count in (("a", 80), ("b", 120)):
            shares = dice.beta(2, 2, count)
            tasks[tag] = dice.binomial(4, shares)
            for i, good in enumerate(tasks[tag]):
                lines += [{"tag": tag, "prompt": f"{tag}{i}", "correct": bool(k < good)} for k in range(4)]
        path = tmp_path / "results.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        found = geneval.read_results(path)
        variance = sum((good / 4).var() / len(good) for good in tasks.values()) / len(tasks) ** 2
        assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * variance**0.5, rel=0.1)

    def test_what_is_not_its_own_is_refused(self, tmp_path: Path) -> None:
        drawn = draw(tmp_path / "drawn", ["a green cow"])
        with pytest.raises(OptionError, match="has no prompt 'a green cow'"):
            geneval.export(drawn, tmp_path / "out", self.file(tmp_path))
        with pytest.raises(OptionError, match="--prompt-file"):
            geneval.export(drawn, tmp_path / "out", None)
        assert not (tmp_path / "out").exists()
        (tmp_path / "other.jsonl").write_text('{"correct": true}\n')
        with pytest.raises(OptionError, match="no tag, prompt or correct"):
            geneval.read_results(tmp_path / "other.jsonl")
        (tmp_path / "broken.jsonl").write_text('{"tag": "a"}\nnot json\n')
        with pytest.raises(OptionError, match="line 2"):
            geneval.read_results(tmp_path / "broken.jsonl")


class TestVBench:
    def test_videos_are_named_by_prompt_and_number(self, tmp_path: Path) -> None:
        drawn = draw(tmp_path / "drawn", ["a cat, 2 s", "a dog", "a cat, 2 s"], ".mp4")
        info = [
            {"prompt_en": "a cat, 2 s", "dimension": ["temporal_flickering"]},
            {"prompt_en": "a dog", "dimension": ["color"], "auxiliary_info": {}},
        ]
        (tmp_path / "info.json").write_text(json.dumps(info))
        lines = vbench.export(drawn, tmp_path / "out", tmp_path / "info.json")
        assert tree(tmp_path / "out") == ["a cat, 2 s-0.mp4", "a cat, 2 s-1.mp4", "a dog-0.mp4"]
        assert (tmp_path / "out/a cat, 2 s-1.mp4").read_bytes() == b"video 2"
        assert lines[0].startswith("too few videos of 'a cat, 2 s' and 1 more")
        assert vbench.read_prompts(tmp_path / "info.json") == ["a cat, 2 s", "a dog"]

    def test_pictures_and_impossible_names_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match=r"reads videos .* holds \.png"):
            vbench.export(draw(tmp_path / "pictures", ["a cat"]), tmp_path / "out", None)
        with pytest.raises(OptionError, match="makes no file name: 'a/b'"):
            vbench.export(draw(tmp_path / "videos", ["a/b"], ".mp4"), tmp_path / "other", None)

    def results(self, tmp_path: Path, dimensions: dict[str, float]) -> Path:
        folder = tmp_path / "results"
        folder.mkdir()
        for name, value in dimensions.items():
            content = {name: [value, [{"video_path": "a-0.mp4", "video_results": value}]]}
            (folder / f"results_{name}_eval_results.json").write_text(json.dumps(content))
            (folder / f"results_{name}_full_info.json").write_text("[]")  # written beside it
        return folder

    def test_scores_are_the_weighted_means_of_what_is_normalised(self, tmp_path: Path) -> None:
        """At the ends of the published ranges all scores are 0 or 1; dynamic degree weighs a half."""
        ends: dict[str, tuple[float, float, float]] = vbench.QUALITY | vbench.SEMANTIC
        highest = vbench.read_results(self.results(tmp_path, {name: high for name, (_, high, _) in ends.items()}))
        assert highest["quality"] == highest["semantic"] == highest["score"] == pytest.approx(1)

    def test_a_dimension_weighs_as_published(self, tmp_path: Path) -> None:
        ends: dict[str, tuple[float, float, float]] = vbench.QUALITY | vbench.SEMANTIC
        lowest = {name: low for name, (low, _, _) in ends.items()}
        found = vbench.read_results(self.results(tmp_path, lowest | {"dynamic_degree": 1.0, "scene": 0.4111}))
        assert found["quality"] == pytest.approx(0.5 / 6.5)
        assert found["semantic"] == pytest.approx(0.5 / 9)
        assert found["score"] == pytest.approx((4 * 0.5 / 6.5 + 0.5 / 9) / 5)

    def test_missing_dimensions_leave_scores_out_instead_of_counting_as_zero(self, tmp_path: Path) -> None:
        found = vbench.read_results(self.results(tmp_path, dict.fromkeys(vbench.QUALITY, 0.9)))
        assert found["quality"] is not None
        assert found["semantic"] is None
        assert found["score"] is None
        assert found["missing"] == list(vbench.SEMANTIC)

    def test_other_files_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match="no dimension with a number"):
            vbench.read_results(self.results(tmp_path, {"beauty": 1.0}))
        (tmp_path / "empty").mkdir()
        with pytest.raises(OptionError, match="holds no"):
            vbench.read_results(tmp_path / "empty")


class TestImageReward:
    def test_pictures_carry_the_ids_of_their_prompts(self, tmp_path: Path) -> None:
        (tmp_path / "p.json").write_text(
            json.dumps(
                [
                    {"id": "005695-0057", "prompt": "a cat"},
                    {"id": "x", "prompt": "unused"},
                    {"id": "7", "prompt": "sea"},
                ]
            )
        )
        drawn = draw(tmp_path / "drawn", ["a cat", "sea", "a cat", "sea"])
        image_reward.export(drawn, tmp_path / "out", tmp_path / "p.json")
        names = ["005695-0057_0.png", "005695-0057_1.png", "7_0.png", "7_1.png"]
        assert tree(tmp_path / "out") == [*(f"generations/tocache/{name}" for name in names), "prompts.json"]
        listed = json.loads((tmp_path / "out/prompts.json").read_text())
        assert listed == [{"id": "005695-0057", "prompt": "a cat"}, {"id": "7", "prompt": "sea"}]
        # its test-benchmark.py counts the files and divides by the prompts
        assert len(names) // len(listed) == 2
        assert red(tmp_path / "out/generations/tocache/7_1.png") == 3

    def test_without_a_prompt_file_ids_are_numbers(self, tmp_path: Path) -> None:
        image_reward.export(draw(tmp_path / "drawn", ["a", "b"]), tmp_path / "out", None)
        assert tree(tmp_path / "out")[:2] == ["generations/tocache/00000_0.png", "generations/tocache/00001_0.png"]

    def test_unequal_numbers_of_pictures_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match="'a' has 2 and 'b' has 1"):
            image_reward.export(draw(tmp_path / "drawn", ["a", "b", "a"]), tmp_path / "out", None)

    def test_the_score_is_the_mean_over_prompts(self, tmp_path: Path) -> None:
        rows: list[dict[str, Any]] = [
            {"id": "1", "prompt": "a", "mean_score": 1.0, "rewards": [[0.5], [1.5]]},  # as inference_rank gives them
            {"id": "2", "prompt": "b", "mean_score": -1.0, "rewards": [-1.0, -1.0]},
            {"id": "3", "prompt": "c", "mean_score": 0.3, "rewards": 0.3},
        ]
        (tmp_path / "r.json").write_text(json.dumps(rows))
        found = image_reward.read_results(tmp_path / "r.json")
        assert found["score"] == pytest.approx(0.1)
        assert (found["pictures"], found["prompts"]) == (5, 3)
        assert found["low"] < found["score"] < found["high"]
        (tmp_path / "bad.json").write_text('{"tocache": 0.9}')
        with pytest.raises(OptionError, match="not a result file"):
            image_reward.read_results(tmp_path / "bad.json")


class TestHPS:
    printed = """Loading model ...
Loading model successfully!
-----------benchmark score ----------------
tocache anime           27.81 \t 0.2031
tocache photo           26.05 \t 0.1800
tocache Average         26.93 \t
"""

    def test_styles_have_folders_and_prompt_lists(self, tmp_path: Path) -> None:
        (tmp_path / "styles").mkdir()
        (tmp_path / "styles/anime.json").write_text('["a girl", "a cat"]')
        (tmp_path / "styles/photo.json").write_text('["a cat", "sea"]')
        drawn = draw(tmp_path / "drawn", ["a cat", "a girl", "a cat", "sea", "sea"])
        lines = hps.export(drawn, tmp_path / "out", tmp_path / "styles")
        pictures = ["anime/00000.jpg", "anime/00001.jpg", "photo/00000.jpg", "photo/00001.jpg"]
        assert tree(tmp_path / "out") == [
            *(f"images/tocache/{name}" for name in pictures),
            "prompts/anime.json",
            "prompts/photo.json",
        ]
        assert [red(tmp_path / "out/images/tocache" / name) for name in pictures] == [1, 0, 2, 3]
        assert lines[0] == "0 prompts have no picture; 1 pictures are more than one of their prompt"
        assert hps.read_prompts(tmp_path / "styles") == ["a girl", "a cat", "a cat", "sea"]

    def test_without_a_prompt_file_every_picture_is_scored_with_its_own(self, tmp_path: Path) -> None:
        hps.export(draw(tmp_path / "drawn", ["a", "b", "a"]), tmp_path / "out", None)
        assert json.loads((tmp_path / "out/prompts/prompts.json").read_text()) == ["a", "b", "a"]
        assert [red(tmp_path / f"out/images/tocache/prompts/{i:05d}.jpg") for i in range(3)] == [0, 1, 2]

    def test_what_it_prints_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "hps.txt").write_text(self.printed)
        assert hps.read_results(tmp_path / "hps.txt") == {"score": 26.93, "styles": {"anime": 27.81, "photo": 26.05}}
        (tmp_path / "other.txt").write_text("Loading model ...")
        with pytest.raises(OptionError, match="no line of a style"):
            hps.read_results(tmp_path / "other.txt")


def test_results_of_several_tools_stand_in_one_report(tmp_path: Path) -> None:
    (tmp_path / "hps.txt").write_text(TestHPS.printed)
    (tmp_path / "r.json").write_text('[{"id": "1", "prompt": "a", "rewards": [0.5]}]')
    write_report(import_from([f"hps={tmp_path / 'hps.txt'}"], None, None), tmp_path / "report.json")
    both = import_from([f"image-reward={tmp_path / 'r.json'}"], None, tmp_path / "report.json")
    assert {name: found["score"] for name, found in both.imported.items()} == {"hps": 26.93, "image-reward": 0.5}
    assert both.imported["hps"]["source"] == str(tmp_path / "hps.txt")
    assert import_from([], Report(notes=("kept",)), None).notes == ("kept",)


def test_a_folder_of_tocache_sample_knows_its_prompts(tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    (folder / "images/000000").mkdir(parents=True)
    (folder / "config.json").write_text('{"shard": 1000, "num": 3}')
    rows = []
    for i, prompt in enumerate(["a cat", "sea"]):
        file = folder / f"images/000000/{i:08d}.png"
        Image.new("RGB", (4, 4), (i, 0, 0)).save(file)
        row = {
            "index": i,
            "prompt": prompt,
            "seed": i,
            "file": f"000000/{i:08d}.png",
            "bytes": 1,
            "sha256": "",
            "seconds": 1,
        }
        rows.append(json.dumps(row) + "\n")
    rows.append('{"index": 2, "prompt": "poison", "seed": 2, "error": "no such token"}\n')
    (folder / "manifest.jsonl").write_text("".join(rows))
    lines = export_to(f"image-reward={tmp_path / 'out'}", folder, None, None)
    assert lines[0] == f"2 files for ImageReward: {tmp_path / 'out'}"
    assert json.loads((tmp_path / "out/prompts.json").read_text())[1] == {"id": "00001", "prompt": "sea"}


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_an_export_does_not_mix_with_what_is_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep me")
    (tmp_path / "p.jsonl").write_text('{"tag": "a", "prompt": "a"}\n')
    drawn = draw(tmp_path / "drawn", ["a"], ".mp4" if name == "vbench" else ".png")
    with pytest.raises(OptionError, match="is not empty"):
        tool(name).export(drawn, tmp_path / "out", tmp_path / "p.jsonl" if name == "geneval" else None)
    assert tree(tmp_path / "out") == ["mine.txt"]


def test_prompts_become_a_file_for_sampling(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('[{"id": "1", "prompt": "a cat"}, {"id": "2", "prompt": "two\\nlines"}]')
    source = f"image-reward={tmp_path / 'p.json'}"
    assert write_prompts(source, tmp_path / "p.jsonl") == 2
    assert [json.loads(line)["prompt"] for line in (tmp_path / "p.jsonl").read_text().splitlines()] == [
        "a cat",
        "two\nlines",
    ]
    with pytest.raises(OptionError, match="several lines"):
        write_prompts(source, tmp_path / "p.txt")


def test_prompts_must_be_known_and_tools_exist(tmp_path: Path) -> None:
    folder = draw(tmp_path / "drawn", ["a"]).folder
    with pytest.raises(OptionError, match="prompts are not known"):
        open_drawn(folder)
    with pytest.raises(OptionError, match="2 prompts for 1 files"):
        open_drawn(folder, ["a", "b"])
    with pytest.raises(OptionError, match="is not a folder"):
        open_drawn(tmp_path / "none", ["a"])
    with pytest.raises(UnknownNameError, match="did you mean 'vbench'"):
        export_to("vbnech=out", folder, ["a"], None)
    with pytest.raises(OptionError, match="tool=path"):
        export_to("vbench", folder, ["a"], None)
