"""One run's step to a larger size, added to another run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from typer.testing import CliRunner

from tocache.demo.train.__main__ import app
from tocache.demo.train.merge import merge
from tocache.errors import CheckpointError

SIZES = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "caption_channels": 12}


def pipeline(folder: Path, seed: int, sample_size: int = 16, **sizes: int) -> Path:
    torch.manual_seed(seed)
    model = PixArtTransformer2DModel(cross_attention_dim=16, sample_size=sample_size, **SIZES | sizes)
    model.save_pretrained(folder / "transformer")
    (folder / "model_index.json").write_text(json.dumps({"seed": seed}))
    return folder


def test_the_difference_is_added_and_the_rest_is_the_bases(tmp_path: Path) -> None:
    base, grown, small = (pipeline(tmp_path / str(seed), seed, size) for seed, size in ((0, 16), (1, 32), (2, 16)))
    options = ["--out", tmp_path / "run", "--base", base, "--grown", grown, "--small", small]
    result = CliRunner().invoke(app, ["merge", *map(str, options)], catch_exceptions=False)
    assert result.exit_code == 0
    export = tmp_path / "run" / "export"
    assert json.loads((export / "model_index.json").read_text()) == {"seed": 0}
    merged, a, b, c = (
        PixArtTransformer2DModel.from_pretrained(folder / "transformer") for folder in (export, base, grown, small)
    )
    assert merged.config.sample_size == 32
    for name, weight in merged.state_dict().items():
        torch.testing.assert_close(weight, a.state_dict()[name] + b.state_dict()[name] - c.state_dict()[name])


def test_nothing_was_learned_gives_the_base(tmp_path: Path) -> None:
    base, same = pipeline(tmp_path / "base", 0), pipeline(tmp_path / "same", 1)
    export = merge(base, same, same, tmp_path / "run")
    one, other = (PixArtTransformer2DModel.from_pretrained(folder / "transformer") for folder in (base, export))
    assert all(torch.equal(one.state_dict()[name], weight) for name, weight in other.state_dict().items())


def test_another_model_is_refused(tmp_path: Path) -> None:
    base, deep = pipeline(tmp_path / "base", 0), pipeline(tmp_path / "deep", 1, num_layers=3)
    with pytest.raises(CheckpointError, match=r"deep: transformer_blocks\.2\..* is not as in .*base"):
        merge(base, deep, base, tmp_path / "run")
    assert not (tmp_path / "run").exists()
