"""Weights that torchao has quantized. No part of the test environment: diffusers imports it, and it logs when imported.

To run these: `pip install torchao`.
"""

from __future__ import annotations

from typing import Any

import pytest

from .pipelines import check_workflow, class_pipe, draw_class, draw_flux, draw_text, flux_pipe, text_pipe

quantization = pytest.importorskip("torchao.quantization", exc_type=ImportError)

CONFIGS = ("Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig", "Float8WeightOnlyConfig")


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(
    ("make", "draw"),
    [(class_pipe, draw_class), (text_pipe, draw_text), (flux_pipe, draw_flux)],
    ids=["dit", "pixart", "flux"],
)
def test_quantized_weights(make: Any, draw: Any, config: str) -> None:
    pipe = make()
    quantization.quantize_(pipe.transformer, getattr(quantization, config)())
    check_workflow(pipe, draw)
