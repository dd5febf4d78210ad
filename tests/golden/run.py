#!/usr/bin/env python
"""Compares tocache with recorded runs of the published ToCa code: run.py FILE.npz [FILE.npz ...].

For a run it prints `NAME final_rel_err=… plan_equal=yes|no selections_equal=A/B`, for a file of single forwards
`NAME forward_rel_err=…`. The JSON file that describes a golden file lies beside it; all settings are read there.

Exit status 0: every final latent is within 1e-5 of the recorded one, relative to its largest absolute value (within
5e-3 where over 100 recorded choices hang on a score difference under 1e-6), every full or partial decision and every
token count is the same, and every single forward is within 1e-5. 1: something differs. 2: a file cannot be compared.
"""

import importlib
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the folder of the package `golden`, not the package
    sys.exit(importlib.import_module("golden.compare").main(sys.argv[1:]))
