"""Hunyuan-DiT."""

from __future__ import annotations

import string
from typing import Any

import diffusers
from transformers import BertConfig, BertModel, BertTokenizer

from tocache.demo.random_text import TEXT_DIM, tiny_t5_encoder, tiny_t5_tokenizer

from ...conftest import Case
from .parts import TEXTS, miniature
from .pictures import LATENTS, picture_vae

BERT_DIM = 16


def _bert_tokenizer() -> BertTokenizer:
    """Single letters."""
    letters = string.ascii_lowercase
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, model_max_length=77)


def _bert(vocabulary: int) -> Any:
    sizes = {"hidden_size": BERT_DIM, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return BertModel(BertConfig(vocab_size=vocabulary, **sizes)).eval()


@miniature
def hunyuan_dit(**config: Any) -> Any:
    sizes = {"num_layers": 4, "num_attention_heads": 2, "attention_head_dim": 8, "hidden_size": 16, "mlp_ratio": 2.0}
    sizes |= {"in_channels": LATENTS, "patch_size": 2, "sample_size": 16, "cross_attention_dim": BERT_DIM}
    sizes |= {"cross_attention_dim_t5": TEXT_DIM, "pooled_projection_dim": 16}
    tokenizer, tokenizer_2 = _bert_tokenizer(), tiny_t5_tokenizer()
    return diffusers.HunyuanDiTPipeline(
        vae=picture_vae(),
        text_encoder=_bert(len(tokenizer)),
        tokenizer=tokenizer,
        text_encoder_2=tiny_t5_encoder(tokenizer_2),
        tokenizer_2=tokenizer_2,
        transformer=diffusers.HunyuanDiT2DModel(**sizes | config),
        scheduler=diffusers.DDIMScheduler(prediction_type="v_prediction"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


CALL: dict[str, Any] = {"output_type": "latent", "height": 128, "width": 128, "use_resolution_binning": False}
CASES = (Case("hunyuan-dit", hunyuan_dit, TEXTS, {"guidance_scale": 1.0}, {}, CALL, slow=True),)
