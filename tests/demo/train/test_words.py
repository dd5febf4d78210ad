"""What the text encoder is asked, and that it learns to answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tocache.demo.train.text_encoder import SCORE_WORDS, load_words, new_tokenizer
from tocache.demo.train.words import QUESTIONS, WordsTask, asked, said_of
from tocache.demo.world.scene import Background, Claim, Kind, Scene, Thing, draw_scene
from tocache.opensora.text import plain, with_scores

CPU = torch.device("cpu")
TOKENIZER = new_tokenizer(SCORE_WORDS)


def scene_of(caption: str, *claims: Claim) -> Scene:
    things = (Thing("circle", "red", "small", 0.2, 0.5, 0.1), Thing("square", "blue", "large", 0.7, 0.5, 0.2))
    return Scene(things, Background("gradient", ((0.5,) * 3, (0.5,) * 3), (0.0,) * 8), caption, claims)


def test_a_thing_is_told_what_the_caption_says_of_it_and_no_more() -> None:
    scene = scene_of(
        "a small red circle left of a blue square",
        Claim("count", "2"),
        Claim("thing", "red circle"),
        Claim("size", "small"),
        Claim("thing", "blue square", 1),
        Claim("relation", "left of", 0, 1),
    )
    both = {"motion": "", "count": "2"}
    circle = both | {"shape": "circle", "colour": "red", "size": "small", "role": "subject left of"}
    square = both | {"shape": "square", "colour": "blue", "size": "", "role": "object left of"}
    assert [said_of(scene, 0), said_of(scene, 1)] == [circle, square]


def test_the_words_for_colour_and_shape_are_asked() -> None:
    scene = scene_of("a small red circle left of a blue square", Claim("count", "2"))
    ids, mask, words, answers = asked(TOKENIZER, [scene], [scene.caption])
    found = TOKENIZER.convert_ids_to_tokens(ids[0, words[:, 1]].tolist())
    assert found == ["▁red", "▁circle", "▁blue", "▁square"]
    assert [row["shape"] for row in answers] == ["circle", "circle", "square", "square"]
    assert ids.shape == mask.shape == (1, 10)  # nine words and the end


@given(index=st.integers(0, 2**41), kind=st.sampled_from(("picture", "clip")), scored=st.booleans())
@settings(deadline=None)
def test_every_thing_of_every_scene_is_asked_twice(index: int, kind: Kind, scored: bool) -> None:
    scene = draw_scene(3, index, kind)
    caption = plain(with_scores(scene.caption) if scored else scene.caption)
    _, _, words, answers = asked(TOKENIZER, [scene], [caption])
    assert len(words) == len(answers) == 2 * len(scene.things)
    for row in answers:
        assert all(row[name] in known for name, known in QUESTIONS.items())


def test_it_learns_to_answer() -> None:
    task = WordsTask(0, 64, CPU, layers=2)
    optimizer = torch.optim.AdamW(task.model.parameters(), 5e-3)
    before = task.accuracy(128)
    for step in range(30):
        optimizer.zero_grad()
        loss, figures = task.loss(step, torch.Generator())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    after = task.accuracy(128)
    assert figures.keys() == QUESTIONS.keys()
    # neither stands in the words that are asked
    assert before["role"] < 0.65 < after["role"]
    assert before["count"] < 0.65 < after["count"]


@pytest.mark.parametrize("more", [(), SCORE_WORDS], ids=["pictures", "clips"])
def test_an_export_reads_as_it_was_trained_and_learns_no_more(more: tuple[str, ...], tmp_path: Path) -> None:
    task = WordsTask(0, 8, CPU)
    task.export(tmp_path)
    tokenizer = new_tokenizer(more)
    encoder = load_words(tmp_path, tokenizer).eval()
    ids = tokenizer("a small red circle left of a blue square", return_tensors="pt").input_ids
    trained = task.reader.text_encoder.eval()
    torch.testing.assert_close(encoder(ids).last_hidden_state, trained(ids).last_hidden_state)
    assert encoder.get_input_embeddings().num_embeddings == len(tokenizer)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
