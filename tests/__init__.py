"""The tests; a package, so that those of the models can share their miniatures. This file runs before all others."""

import os
from shutil import which

# Triton decides when it is first imported, by whomever, whether its kernels are compiled or interpreted.
if which("nvidia-smi") is None:
    os.environ.setdefault("TRITON_INTERPRET", "1")
