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
    vocabulary = {token: i for i, token in enumerate(tokens)}
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
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77).save_pretrained(path)
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


def test_open_clip_scores_with_its_own_transform_and_tokenizer(tmp_path: Path) -> None:
    try:
        import open_clip
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision of another torch
        pytest.skip(f"open_clip cannot be imported: {error}")
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    (tmp_path / "tiny-clip.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    torch.manual_seed(0)
    model, _, transform = open_clip.create_model_and_transforms("tiny-clip")
    torch.save(model.eval().state_dict(), tmp_path / "tiny.pt")
    pictures = torch.from_numpy(draw(2)).permute(0, 3, 1, 2)
    ours = load_clip(f"open_clip:tiny-clip/{tmp_path / 'tiny.pt'}").score(pictures / 255, TEXTS[:2])

    from PIL import Image

    pixels = torch.stack([transform(Image.fromarray(picture)) for picture in draw(2)])
    with torch.inference_mode():
        seen = torch.nn.functional.normalize(model.encode_image(pixels), dim=1)
        read = torch.nn.functional.normalize(model.encode_text(open_clip.get_tokenizer("tiny-clip")(TEXTS[:2])), dim=1)
    torch.testing.assert_close(ours.float(), (100 * (seen * read).sum(dim=1)).clamp_min(0), rtol=1e-4, atol=1e-3)
    with pytest.raises(OptionError, match="cannot be loaded"):
        load_clip(f"open_clip:tiny-clip/{tmp_path / 'none.pt'}")
