"""All five studies of one model, and their pictures where the documentation shows them.

    python benchmarks/analysis.py                         # demo:class: docs/images/analysis-*.png
    python benchmarks/analysis.py --model demo:text       # docs/images/analysis-text-*.png

Tables and arrays go to --output (out/analysis), and beside each of them a .json that says what it was measured on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

STUDIES = ("redundancy", "propagation", "sensitivity", "selection", "scores")
IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo:class")
    parser.add_argument("--studies", default=",".join(STUDIES), help="with commas between")
    parser.add_argument("--output", type=Path, default=Path("out/analysis"))
    arguments = parser.parse_args()
    name = "" if arguments.model == "demo:class" else f"{arguments.model.rpartition(':')[2]}-"
    for study in arguments.studies.split(","):
        start = time.perf_counter()
        command = [sys.executable, "-m", "tocache", "analyze", study, "--model", arguments.model]
        subprocess.run([*command, "-o", str(arguments.output)], check=True)
        picture = (arguments.output / f"{study}.png").read_bytes()
        (IMAGES / f"analysis-{name}{study}.png").write_bytes(picture)
        print(f"{study}: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
