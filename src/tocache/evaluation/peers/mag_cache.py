"""MagCache of diffusers: how the residual's magnitude changes, measured once, decides which steps are skipped."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

from tocache.evaluation.contenders import Contender
from tocache.evaluation.peers.base import Draw, Peer
from tocache.evaluation.peers.hooks import cached, hooked

_DEFAULT = (0.06, 3)  # threshold, longest skip
_SETTINGS = ((0.03, 2), _DEFAULT, (0.12, 3), (0.12, 5), (0.24, 5), (0.5, 7), (1.0, 10), (5.0, 20))


def _settings(pipe: Any, steps: int, draw: Draw) -> Sequence[Contender]:
    from diffusers.hooks import MagCacheConfig

    ratios = _calibrated(pipe, steps, draw)

    def at(threshold: float, skip: int) -> Contender:
        options = {"threshold": threshold, "max_skip_steps": skip, "num_inference_steps": steps, "mag_ratios": ratios}
        setting = f"threshold {threshold:g}, skips at most {skip}"
        return cached(
            "mag-cache",
            setting,
            lambda pipe, clock: MagCacheConfig(**options),
            "apply_mag_cache",
            always=(threshold, skip) == _DEFAULT,
        )

    return [at(*setting) for setting in _SETTINGS]


def _calibrated(pipe: Any, steps: int, draw: Draw) -> list[float]:
    """The ratios of this model, from one run, as the documentation says: calibrating prints them, and one copies them.

    Raises ValueError where a run prints none.
    """
    from diffusers.hooks import MagCacheConfig

    printed = io.StringIO()
    config = MagCacheConfig(calibrate=True, num_inference_steps=steps)
    with redirect_stdout(printed), hooked(pipe, config, "apply_mag_cache"):
        draw()
    found = re.search(r"^\[[-\d., e+]+\]$", printed.getvalue(), re.MULTILINE)
    if found is None:
        raise ValueError("apply_mag_cache: calibrating printed no ratios")
    ratios: list[float] = json.loads(found[0])
    return ratios


MAG_CACHE = Peer("mag-cache", "diffusers, MagCacheConfig, calibrated here", _settings, "0.42")
