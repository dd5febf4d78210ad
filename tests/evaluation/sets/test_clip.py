"""The CLIP score with a tiny random CLIP, against torchmetrics' own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tocache.errors import OptionError
from tocache.evaluation.sets.clip import load_clip
from tocache.evaluation.sets.evaluate import evaluate

TEXTS = ["a red circle", "two blue squares above it", "sea " * 200]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of random weights in transformers' format, with a tokenizer that knows single letters."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

    path = tmp_path_factory.mktemp("clip")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (path / "merges.txt").write_text("#version: 0.2\n")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    torch.manual_seed(0)
    model = CLIPModel(
        CLIPConfig(
            text_config=CLIPTextConfig(**sizes, **ends, vocab_size=len(tokens), max_position_embeddings=77).to_dict(),
            vision_config=CLIPVisionConfig(**sizes, image_size=32, patch_size=8).to_dict(),
            projection_dim=16,
        )
    )
    model.save_pretrained(path)
    CLIPTokenizer(str(path / "vocab.json"), str(path / "merges.txt"), model_max_length=77).save_pretrained(path)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(path)
    return path


def draw(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (count, 48, 40, 3), dtype=np.uint8)


def test_equals_the_score_of_torchmetrics(folder: Path) -> None:
    from torchmetrics.functional.multimodal import clip_score
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    processor, tokenizer = CLIPImageProcessor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)

    class Plain(CLIPModel):
        """torchmetrics 1.9 expects the tensors that transformers before 5 gave."""

        def get_image_features(self, pixels: torch.Tensor) -> torch.Tensor:
            return super().get_image_features(pixels).pooler_output

        def get_text_features(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return super().get_text_features(tokens, mask).pooler_output

    def both(text: list[str] | None = None, images: object = None, **options: object) -> object:
        return tokenizer(text, **options) if text is not None else processor(images=images, return_tensors="pt")

    pictures, texts = torch.from_numpy(draw(2)).permute(0, 3, 1, 2), TEXTS[:2]
    ours = load_clip(str(folder)).score(pictures / 255, texts)
    theirs = [
        float(clip_score(one, text, lambda: (Plain.from_pretrained(folder), both)).detach())
        for one, text in zip(pictures, texts, strict=True)
    ]
    assert ours.tolist() == pytest.approx([max(0.0, score) for score in theirs], abs=1e-3)


def test_long_prompts_are_cut_and_scores_lie_between_0_and_100(folder: Path) -> None:
    scores = load_clip(str(folder)).score(torch.rand(3, 3, 40, 40), TEXTS)
    assert scores.shape == (3,)
    assert ((scores >= 0) & (scores <= 100)).all()


def test_every_picture_is_scored_with_its_own_prompt(folder: Path, save: Callable[..., Path]) -> None:
    pictures = draw(5)
    texts = ["a", "bb", "ccc", "dd d", "e"]
    path = save(pictures, "samples")
    whole = evaluate(path, prompts=texts, metrics=["clip"], clip=str(folder), batch=2).figures["clip"]
    scorer = load_clip(str(folder))
    single = [
        float(scorer.score(torch.from_numpy(p).permute(2, 0, 1)[None] / 255, [t]))
        for p, t in zip(pictures, texts, strict=True)
    ]
    assert whole.value == pytest.approx(sum(single) / 5, abs=1e-3)
    assert whole.pictures == 5


def test_prompts_must_be_as_many_as_pictures(folder: Path, save: Callable[..., Path]) -> None:
    with pytest.raises(OptionError, match="2 prompts for 3 pictures"):
        evaluate(save(draw(3), "three"), prompts=["a", "b"], metrics=["clip"], clip=str(folder))


def test_missing_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OptionError, match="no-such/clip is neither a folder nor in Hugging Face's cache"):
        load_clip("no-such/clip")
    with pytest.raises(OptionError, match=r"open_clip"):
        load_clip("open_clip:ViT-B-32")
