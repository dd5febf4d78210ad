"""What an installation promises: names, versions, pins, import time, and nothing of the author's machine inside."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import tocache

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "tocache"


def pins(name: str) -> dict[str, Version]:
    """`{package: version}` of a constraints file."""
    lines = (ROOT / name).read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(r.name): Version(str(r.specifier).removeprefix("==")) for r in requirements}


def required(distribution: str, extras: frozenset[str]) -> list[Requirement]:
    """What a distribution asks for on this machine, with these extras."""
    asked = map(Requirement, importlib.metadata.requires(distribution) or [])
    environments = [{**default_environment(), "extra": extra} for extra in ("", *extras)]
    return [r for r in asked if r.marker is None or any(r.marker.evaluate(e) for e in environments)]


def closure(distribution: str, extras: frozenset[str]) -> set[str]:
    """The names of all that a distribution pulls in, itself left out."""
    seen, todo = set(), [(canonicalize_name(distribution), extras)]
    while todo:
        one = todo.pop()
        if one not in seen:
            seen.add(one)
            todo += [(canonicalize_name(r.name), frozenset(r.extras)) for r in required(*one)]
    return {name for name, _ in seen} - {canonicalize_name(distribution)}


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_public_names_are_sorted_and_exist() -> None:
    names = tocache.__all__
    assert len(set(names)) == len(names)
    # constants, then classes, then the rest: the order that ruff (RUF022) writes
    groups = [[n for n in names if n.isupper()], [n for n in names if n[0].isupper() and not n.isupper()]]
    groups.append([n for n in names if not n[0].isupper()])
    assert names == [name for group in groups for name in sorted(group)]
    assert [name for name in names if not hasattr(tocache, name)] == []


def test_public_names_are_all_listed() -> None:
    module = type(sys)
    shown = {n for n, value in vars(tocache).items() if not n.startswith("_") and not isinstance(value, module)}
    borrowed = {"Any", "TYPE_CHECKING", "import_module"}
    assert shown - set(tocache.__all__) - borrowed == set()


def test_version_is_the_distributions() -> None:
    assert tocache.__version__ == importlib.metadata.version("tocache")
    assert re.search(rf'^version = "{re.escape(tocache.__version__)}"$', (ROOT / "pyproject.toml").read_text(), re.M)


def test_command_is_installed() -> None:
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="tocache")
    assert callable(entry.load())


def test_types_are_shipped() -> None:
    assert (Path(tocache.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-lowest.txt"])
def test_pins_lie_within_what_is_declared(file: str) -> None:
    pinned = pins(file)
    declared = required("tocache", frozenset({"bench", "opensora", "plot", "test", "train", "video"}))
    outside = [str(r) for r in declared if r.name != "tocache" and pinned[canonicalize_name(r.name)] not in r.specifier]
    assert outside == []


def test_lower_bounds_are_the_lowest_tested() -> None:
    lowest = pins("constraints-lowest.txt")
    bounds = {
        canonicalize_name(r.name): Version(s.version)
        for r in required("tocache", frozenset({"bench", "opensora", "plot", "test", "train", "video"}))
        for s in r.specifier
        if s.operator == ">="
    }
    assert bounds.keys() >= {"torch", "diffusers", "transformers"}
    assert {name: lowest[name] for name in bounds} == bounds


def test_everything_installed_is_pinned() -> None:
    """An unpinned package would change under CI's feet."""
    diffusers = Version(importlib.metadata.version("diffusers"))
    environments = [(pins("constraints.txt"), "dev"), (pins("constraints-lowest.txt"), "test")]
    here = [(pinned, extra) for pinned, extra in environments if pinned["diffusers"] == diffusers]
    if not here:
        pytest.skip("installed by other means than scripts/setup and scripts/test-lowest")
    ((pinned, extra),) = here
    installed = {name: importlib.metadata.version(name) for name in closure("tocache", frozenset({extra}))}
    cuda = re.compile("nvidia|cuda|triton")  # torch's own business, where it is a build for GPUs
    public = {name: Version(Version(v).public) for name, v in installed.items() if not cuda.match(name)}
    assert public == {name: pinned.get(name) for name in public}  # 2.13.0+cpu is 2.13.0


@pytest.mark.slow
def test_import_takes_less_than_a_second() -> None:
    """Beyond torch and diffusers, which every program that uses tocache has imported already."""
    code = "import torch, diffusers, time; t = time.perf_counter(); import tocache; print(time.perf_counter() - t)"
    seconds = [float(run_python(code)) for _ in range(3)]
    assert min(seconds) < 1.0, seconds


def test_import_leaves_heavy_libraries_alone() -> None:
    heavy = {"matplotlib", "rich", "transformers", "triton"}
    assert heavy.isdisjoint(run_python("import sys, tocache; print(*sys.modules)").split())


def test_plan_needs_no_torch() -> None:
    """The integers can be planned, costed and drawn where torch is absent; its own files alone, without tocache's."""
    code = (
        "import importlib.util, sys, types\n"
        "package = types.ModuleType('tocache')\n"
        f"package.__path__ = [{str(SOURCE)!r}]\n"
        "sys.modules.update(tocache=package, torch=None, diffusers=None, transformers=None)\n"
        "import tocache.plan\n"
        "print(tocache.plan.ALL)\n"
    )
    assert run_python(code).strip() == "-1"


def test_source_knows_no_machine() -> None:
    """No absolute path of the machine where it was written, and nothing of the material that stays there."""
    alien = re.compile(r"(?<![\w.~/])/(work|home|root|tmp|mnt|opt|Users)/|shared/golden|[A-Z]:\\\\")
    texts = [p for p in SOURCE.rglob("*") if p.suffix in {".py", ".json", ".toml", ".md", ".txt"}]
    found = [f"{p.relative_to(ROOT)}: {m.group()}" for p in texts for m in alien.finditer(p.read_text("utf-8"))]
    assert texts
    assert found == []
