"""What stands beside figures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from tocache.machine import about_machine


def test_a_command_names_no_ones_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["bench", "--memo", str(tmp_path / "trials"), "-o", "results"])
    assert about_machine(torch.device("cpu"), "tocache bench")["command"] == "tocache bench --memo ~/trials -o results"
