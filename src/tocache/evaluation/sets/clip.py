"""CLIP score: how well pictures fit their prompts (Hessel et al., arXiv 2104.08718, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tocache.errors import OptionError

DEFAULT = "openai/clip-vit-large-patch14"
"""ViT-L/14, which ToCa's authors name for their tables; other papers take ViT-B/32 or ViT-g/14, whose scores differ."""

OPEN_CLIP = "open_clip:"
"""Before `architecture/weights` of open_clip, e.g. open_clip:ViT-L-14/openai; weights may also be a file."""


@dataclass(frozen=True)
class ClipScorer:
    """name     of the model
    embed    pictures (B, 3, H, W) in [0, 1] and B texts → their embeddings, (B, D) each
    """

    name: str
    embed: Callable[[Tensor, Sequence[str]], tuple[Tensor, Tensor]]

    @torch.inference_mode()
    def score(self, pictures: Tensor, texts: Sequence[str]) -> Tensor:
        """100 × the cosine of picture and text, at least 0: (B,) float64, as torchmetrics counts it.

        Hessel's own scale is 2.5 × the cosine.
        """
        of_pictures, of_texts = self.embed(pictures, texts)
        cosines: Tensor = F.cosine_similarity(of_pictures.double(), of_texts.double())
        return (100 * cosines).clamp_min(0).cpu()


def load_clip(name: str = DEFAULT, *, device: torch.device | None = None, fetch: bool = False) -> ClipScorer:
    """The scorer of a CLIP in transformers' format (a hub id or a folder), or of open_clip.

    fetch   lets missing weights be downloaded

    Raises OptionError that says what is missing.
    """
    where = device or torch.device("cpu")
    if name.startswith(OPEN_CLIP):
        return _open_clip(name, where, fetch)
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    source: dict[str, Any] = {"local_files_only": not fetch}
    try:
        model = CLIPModel.from_pretrained(name, **source).to(where).eval()
        processor = CLIPImageProcessor.from_pretrained(name, **source)
        tokenizer = AutoTokenizer.from_pretrained(name, **source)
    except (OSError, ValueError) as error:
        raise OptionError(
            f"CLIP has no weights here: {name} is neither a folder nor in Hugging Face's cache; --fetch downloads it"
        ) from error
    return ClipScorer(name, _embedder(model, processor, tokenizer, where))


def _embedder(
    model: Any, processor: Any, tokenizer: Any, device: torch.device
) -> Callable[[Tensor, Sequence[str]], tuple[Tensor, Tensor]]:
    longest = model.config.text_config.max_position_embeddings

    def embed(pictures: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        # as files are scored elsewhere: from 8 bits per channel
        arrays = list((pictures * 255).round().to(torch.uint8).movedim(1, -1).cpu().numpy())
        pixels = processor(images=arrays, return_tensors="pt")["pixel_values"]
        tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        given = model(
            input_ids=tokens["input_ids"].to(device),
            attention_mask=tokens["attention_mask"].to(device),
            pixel_values=pixels.to(device),
        )
        return given.image_embeds, given.text_embeds

    return embed


def _open_clip(name: str, device: torch.device, fetch: bool) -> ClipScorer:
    try:
        import open_clip
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision built for another torch
        raise OptionError(
            f"clip={name!r} needs open_clip: pip install 'tocache[evaluate]' ({str(error).splitlines()[0]})"
        ) from error
    import os

    from PIL import Image

    architecture, _, weights = name.removeprefix(OPEN_CLIP).partition("/")
    if not weights:
        raise OptionError(f"clip={name!r} names no weights; allowed: {OPEN_CLIP}architecture/weights")
    before = os.environ.get("HF_HUB_OFFLINE")
    if not fetch:
        os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        model, _, transform = open_clip.create_model_and_transforms(architecture, pretrained=weights, device=device)
    except Exception as error:  # it raises of many kinds, the hub's among them
        raise OptionError(f"clip={name!r} cannot be loaded: {' '.join(str(error).split())[:200]}") from error
    finally:
        os.environ.pop("HF_HUB_OFFLINE", None)
        if before is not None:
            os.environ["HF_HUB_OFFLINE"] = before
    model.eval()
    tokenizer = open_clip.get_tokenizer(architecture)

    def embed(pictures: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        arrays = (pictures * 255).round().to(torch.uint8).movedim(1, -1).cpu().numpy()
        pixels = torch.stack([transform(Image.fromarray(array)) for array in arrays])
        return model.encode_image(pixels.to(device)), model.encode_text(tokenizer(list(texts)).to(device))

    return ClipScorer(name, embed)
