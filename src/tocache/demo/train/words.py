"""Training of the text encoder, on captions alone: cheap, and a picture must be understood before it can be drawn.

A text encoder that learns together with the transformer learns single words and no more in the time that a small run
has: a probe of one finds at the word for a shape the shape, but neither its colour nor its size nor its place. Real
pipelines take an encoder that has read much before, and leave it alone; so do the demos.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import T5EncoderModel, T5Tokenizer

from tocache.demo.train.text_encoder import SCORE_WORDS, new_text_encoder, new_tokenizer
from tocache.demo.world.scene import COLOURS, DIRECTIONS, PLACES, RELATIONS, SHAPES, Scene, draw_scene
from tocache.opensora.text import plain, with_scores

WIDTH = 128
"""Of the encoder's output."""
HELD_OUT = 2**40
"""Index from which captions are kept from all training."""

_SIZES = ("", "small", "large")
_ROLES = ("", *PLACES, *(f"{part} {relation}" for part in ("subject", "object") for relation in RELATIONS))
_MOTIONS = ("", *DIRECTIONS)
_COUNTS = ("1", "2", "3")
QUESTIONS = {
    "shape": SHAPES,
    "colour": COLOURS,
    "size": _SIZES,
    "role": _ROLES,
    "motion": _MOTIONS,
    "count": _COUNTS,
}
"""What every word of a thing's shape and colour is asked of its thing, and the answers; "" where nothing is said."""


class Reader(nn.Module):
    """What is trained: the encoder, and a linear answer to each question."""

    def __init__(self, text_encoder: T5EncoderModel) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.answers = nn.ModuleDict({name: nn.Linear(WIDTH, len(known)) for name, known in QUESTIONS.items()})

    def forward(self, ids: Tensor, mask: Tensor, words: Tensor) -> dict[str, Tensor]:
        """Logits (words, answers) of each question; `words` (words, 2) are row and column of a token each."""
        states = self.text_encoder(input_ids=ids, attention_mask=mask)[0]  # (B, tokens, WIDTH)
        states = states[words[:, 0], words[:, 1]]
        return {name: answer(states) for name, answer in self.answers.items()}


class WordsTask:
    """Cross-entropies of all questions, on captions of pictures and of clips; these with and without a score."""

    def __init__(self, seed: int, batch: int, device: torch.device, *, layers: int = 3) -> None:
        torch.manual_seed(seed)
        self.seed, self.batch, self.device = seed, batch, device
        self.tokenizer = new_tokenizer(SCORE_WORDS)
        self.reader = Reader(new_text_encoder(self.tokenizer, WIDTH, layers)).to(device)
        self.model: nn.Module = self.reader

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        ids, mask, words, truth = self._batch(step * self.batch, self.batch)
        answers = self.reader(ids, mask, words)
        losses = {name: F.cross_entropy(answers[name].float(), truth[name]) for name in QUESTIONS}
        return torch.stack([*losses.values()]).sum(), {name: float(loss.detach()) for name, loss in losses.items()}

    def compile(self) -> None:
        self.reader.compile()

    def sample(self, folder: Path) -> str:
        right = self.accuracy(1024)
        return "of held-out words, right: " + ", ".join(f"{name} {100 * share:.1f}%" for name, share in right.items())

    def export(self, folder: Path) -> None:
        self.reader.text_encoder.save_pretrained(folder / "text_encoder")

    @torch.inference_mode()
    def accuracy(self, count: int) -> dict[str, float]:
        """Share of the words in `count` held-out captions that answer a question right."""
        ids, mask, words, truth = self._batch(HELD_OUT, count)
        answers = self.reader(ids, mask, words)
        return {name: float((answers[name].argmax(dim=1) == truth[name]).float().mean()) for name in QUESTIONS}

    def _batch(self, first: int, count: int) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Ids and mask (count, tokens), the words asked (words, 2), and the true answers (words,) to each question."""
        numbers = range(first, first + count)
        scenes = [draw_scene(self.seed, i, "clip" if i % 4 == 0 else "picture") for i in numbers]
        captions = [
            plain(with_scores(scene.caption) if i % 8 == 0 else scene.caption)
            for i, scene in zip(numbers, scenes, strict=True)
        ]
        ids, mask, words, answers = asked(self.tokenizer, scenes, captions)
        truth = {
            name: torch.tensor([QUESTIONS[name].index(row[name]) for row in answers], device=self.device)
            for name in QUESTIONS
        }
        return ids.to(self.device), mask.to(self.device), words.to(self.device), truth


def asked(
    tokenizer: T5Tokenizer, scenes: Sequence[Scene], captions: Sequence[str]
) -> tuple[Tensor, Tensor, Tensor, list[dict[str, str]]]:
    """Tokens of `captions`, where in them the shapes and colours of the scenes' things are named, and the answers.

    Returns ids and mask (captions, tokens), row and column of each word (words, 2), and each word's answers.
    """
    text = tokenizer(list(captions), padding="longest", return_tensors="pt", return_offsets_mapping=True)
    words, answers = [], []
    for row, (scene, caption) in enumerate(zip(scenes, captions, strict=True)):
        ends = text.offset_mapping[row, :, 1]
        for number, thing in enumerate(scene.things):
            look = f"{thing.colour} {thing.shape}"
            start = caption.index(look)
            for column in ((ends > start) & (ends <= start + len(look))).nonzero().flatten().tolist():
                words.append((row, column))
                answers.append(said_of(scene, number))
    return text.input_ids, text.attention_mask, torch.tensor(words), answers


def said_of(scene: Scene, number: int) -> dict[str, str]:
    """What the caption says of thing `number`: an answer to each question."""
    thing = scene.things[number]
    said = {"shape": thing.shape, "colour": thing.colour, "size": "", "role": "", "motion": "", "count": ""}
    for claim in scene.claims:
        if claim.kind == "count":
            said["count"] = claim.value
        elif claim.kind == "relation" and number in (claim.subject, claim.object):
            said["role"] = f"{'subject' if number == claim.subject else 'object'} {claim.value}"
        elif claim.subject == number and claim.kind in ("size", "motion"):
            said[claim.kind] = claim.value
        elif claim.subject == number and claim.kind == "place":
            said["role"] = claim.value
    return said
