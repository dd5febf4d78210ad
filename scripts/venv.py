"""Make or refresh a virtual environment: venv.py FOLDER CONSTRAINTS WHAT, WHAT being '.[extras]' or a wheel file.

scripts/setup, test-lowest and wheel-test call it. It needs only Python with pip, and does nothing when nothing
changed: FOLDER/stamp remembers where the checkout lies, which Python made the environment, and a hash of what was
installed. A moved or copied checkout or another Python rebuilds it; changed pins are installed into it.

torch comes first and by itself. Where there is no GPU, the public index would give several GB of CUDA packages, so on
Linux the CPU build (`+cpu`) is asked for; where pip finds none, TOCACHE_TORCH_INDEX says where to look: it is passed to
pip as --index-url for torch alone (PyTorch's installation page lists these addresses).
"""

from __future__ import annotations  # so that an old Python gets as far as being told

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    folder, constraints, what = ROOT / sys.argv[1], ROOT / sys.argv[2], sys.argv[3]
    if sys.version_info < (3, 11):
        sys.exit("setup: the pinned packages need Python 3.11 or newer; set PYTHON to one, e.g. PYTHON=python3.11")
    stamp, python = folder / "stamp", folder / "bin" / "python"
    place = f"{ROOT} {sys.version}"
    inputs = hashlib.sha256(what.encode())
    for file in (ROOT / "pyproject.toml", constraints):
        inputs.update(file.read_bytes())
    had = stamp.read_text().splitlines() if stamp.exists() and python.exists() else []
    if had == [place, inputs.hexdigest()]:
        return

    start = time.monotonic()
    name = os.path.relpath(folder, ROOT) if folder.is_relative_to(ROOT) else folder.name
    print(f"setup: {name} with the pins of {constraints.name} ...", end=" ", flush=True, file=sys.stderr)
    if had[:1] == [place]:
        stamp.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)
        # the interpreter underneath: an activated .venv must not be asked to make itself anew
        base = getattr(sys, "_base_executable", sys.executable)
        subprocess.run([base, "-m", "venv", folder], check=True)

    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
    install_torch(pip, python, constraints)
    pip += ["-c", str(constraints)]
    if what.startswith("."):
        subprocess.run([*pip, "hatchling"], check=True)  # so that the build backend is pinned as well
        pip += ["--no-build-isolation", "-e"]
    subprocess.run([*pip, what], check=True, cwd=ROOT)
    stamp.write_text(f"{place}\n{inputs.hexdigest()}\n")
    print(f"done in {time.monotonic() - start:.0f} s", file=sys.stderr)


def install_torch(pip: list[str], python: Path, constraints: Path) -> None:
    pin = next(line.strip() for line in constraints.read_text().splitlines() if line.startswith("torch=="))
    query = [str(python), "-c", "from importlib.metadata import version; print(version('torch').split('+')[0])"]
    if subprocess.run(query, check=False, capture_output=True, text=True).stdout.strip() == pin.split("==")[1]:
        return
    if index := os.environ.get("TOCACHE_TORCH_INDEX"):
        subprocess.run([*pip, "--index-url", index, pin], check=True)
    elif (platform.system(), platform.machine()) != ("Linux", "x86_64") or has_gpu():
        subprocess.run([*pip, pin], check=True)
    elif subprocess.run([*pip, f"{pin}+cpu"], check=False, stderr=subprocess.PIPE).returncode:
        sys.exit(
            f"\nsetup: no GPU here, and pip finds no CPU build of {pin}. Set TOCACHE_TORCH_INDEX to the address of\n"
            "PyTorch's CPU wheels, or of its CUDA wheels if you want those; PyTorch's installation page lists both."
        )


def has_gpu() -> bool:
    return bool(shutil.which("nvidia-smi") or Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists())


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"setup: this command failed: {subprocess.list2cmdline(map(str, error.cmd))}")
