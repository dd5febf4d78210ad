"""Prompts of files and classes of models."""

from __future__ import annotations

from pathlib import Path

import pytest

from tocache.errors import OptionError, UnsupportedModelError
from tocache.sampling import Prompts, choose_prompts, read_classes, read_prompts


def test_lines_of_a_text_file(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffa fox\r\n\r\n  zwei “Füchse”\u2028 und Æsop  \n".encode())
    assert read_prompts(file).values == ("a fox", "zwei “Füchse”\u2028 und Æsop")


def test_objects_of_a_jsonl_file(tmp_path: Path) -> None:
    file = tmp_path / "metadata.jsonl"
    file.write_text('{"tag": "counting", "prompt": "two foxes"}\n\n{"image_id": 3, "caption": "a sea"}\n')
    assert read_prompts(file).values == ("two foxes", "a sea")
    for line in ('{"text": "x"}', "[]", "a fox", "3"):
        file.write_text('{"prompt": "x"}\n' + line)
        with pytest.raises(OptionError, match=r'metadata\.jsonl, line 2: not an object with "prompt"'):
            read_prompts(file)


def test_files_without_prompts(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\n \n")
    with pytest.raises(OptionError, match="holds no prompt"):
        read_prompts(file)
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(OptionError, match="cannot be read"):
        read_prompts(file)
    with pytest.raises(OptionError, match="cannot be read"):
        read_prompts(tmp_path / "absent.txt")


def test_they_begin_anew_and_their_order_counts() -> None:
    prompts = Prompts(("a", "b", "c"))
    assert [prompts[i] for i in (0, 2, 3, 7)] == ["a", "c", "a", "b"]
    assert len(prompts) == 3
    digests = {Prompts(values).digest for values in (("a", "b"), ("b", "a"), ("ab",), ("1",), (1,))}
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("text", "found"),
    [("all", tuple(range(10))), ("7", (7,)), ("3, 0-2,9-9", (3, 0, 1, 2, 9)), (" all ", tuple(range(10)))],
)
def test_classes_of_a_model(text: str, found: tuple[int, ...]) -> None:
    """demo:class has more embeddings than the ten classes that it names."""
    assert read_classes(text, "demo:class").values == found


@pytest.mark.parametrize("text", ["10", "0-10", "3-1", "", "seven", "-1", "1,,2"])
def test_classes_that_are_not_there(text: str) -> None:
    with pytest.raises(OptionError, match="allowed: all, or numbers from 0 to 9"):
        read_classes(text, "demo:class")


def test_classes_where_there_are_no_names_of_them() -> None:
    assert len(read_classes("all", "demo:random-class")) == 1000
    with pytest.raises(UnsupportedModelError, match="'demo:text' takes prompts, not classes"):
        read_classes("all", "demo:text")


def test_exactly_one_of_both(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("a")
    assert choose_prompts(tmp_path / "p", None, "demo:text").values == ("a",)
    for prompts, classes in ((None, None), (tmp_path / "p", "all")):
        with pytest.raises(OptionError, match="either prompts, a file, or classes"):
            choose_prompts(prompts, classes, "demo:text")
