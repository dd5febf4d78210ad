"""A pytest plugin of `host_pipelines.py`: enables the cache on every pipeline that is made, as HOST_TESTS_RUN says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from diffusers import DiffusionPipeline

import tocache

METHODS = {"all-fresh": tocache.Uncached(), "partial": tocache.ToCa(3, 0.5)}
RUN = os.environ["HOST_TESTS_RUN"]
attached: list[str] = []  # the classes of the pipelines

if RUN in METHODS:
    plain = DiffusionPipeline.register_modules

    def register_modules(self: Any, **modules: Any) -> None:
        """Called at the end of what all pipelines do when they are made."""
        plain(self, **modules)
        if modules.get("transformer") is None or modules.get("scheduler") is None:
            return
        for module in (modules["transformer"], modules.get("transformer_2")):
            if module is not None:
                module.eval()  # as from_pretrained does; tests make their own, and a cache is refused in training mode
        try:
            tocache.enable(self, METHODS[RUN])
        except tocache.UnsupportedModelError:
            return
        attached.append(type(self).__name__)

    DiffusionPipeline.register_modules = register_modules


def pytest_sessionfinish(session: pytest.Session) -> None:
    Path(os.environ["HOST_TESTS_ATTACHED"]).write_text(json.dumps(len(attached)))
