"""The commands as a stranger meets them: what they print, write and refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

import tocache
from tocache.cli.app import app
from tocache.cli.errors import shown_warnings
from tocache.cli.progress import step_bar
from tocache.errors import TocacheWarning
from tocache.generation import Progress


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_help_lists_the_commands() -> None:
    result = call("--help")
    assert result.exit_code == 0
    for command in ("generate", "plan", "models", "bench", "tune", "doctor"):
        assert command in result.output
    assert call().output == result.output


def test_version() -> None:
    assert call("--version").output == f"tocache {tocache.__version__}\n"


def test_plan_prints_summary_heat_map_and_table() -> None:
    result = call("plan", "--model", "dit-xl-2-256", "--method", "toca", "--steps", 50)
    assert result.exit_code == 0, result.output
    for text in (
        "DiTTransformer2DModel 28 x 1152",
        "2 rows of 256 image tokens",
        "50: 18 full, 24 partial, 8 reuse",
        "23.74 TFLOPs → 10.23 TFLOPs, 2.32× fewer",
        "127.1 GFLOPs more, for exact attention scores",
        "63.1 MiB at most",
        "104–156",
    ):
        assert text in result.output
    (first,) = (line for line in result.output.splitlines() if line.strip().startswith("0 █"))
    assert first.split()[1] == "█···██···█··░█░░░█░█░░█░░█░░█░▒█▒█▒█▒█▒█▒█▒█▒█▒█▒█"
    assert "\x1b" not in result.output


@pytest.mark.parametrize("width", ["60", "80", "200"])
def test_plan_fits_the_terminal(width: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", width)
    result = call("plan", "--model", "dit-xl-2-256", "--preset", "paper-ddpm250")
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= int(width)
    assert len(result.output.splitlines()) < 60


def test_plan_prints_the_notes_and_hides_columns_that_say_nothing() -> None:
    result = call("plan", "--model", "flux-dev-1024", "--batch", 2)
    assert "1 row of 256 image tokens" in call("plan", "--model", "dit-xl-2-256", "--guidance", 1).output
    assert "2 rows of 4096 image, 512 text, 4608 joint tokens" in result.output
    assert "norms and modulation are not counted" in result.output
    assert "computed whole or not at all: self-attention [image]" in result.output


@pytest.mark.parametrize("width", ["80", "200"])
def test_plan_predicts_and_says_so(width: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", width)
    options = ["--model", "dit-xl-2-256", "--preset", "paper-ddim50", "--on", "h100", "--attained", 0.5]
    text = call("plan", *options).output
    assert max(map(len, text.splitlines())) <= int(width)
    words = " ".join(text.split())
    assert "predicted for H100 SXM at 50% of its FLOPs, not measured" in words
    for line in ("uncached", "full × 18", "partial × 24", "reuse × 8", "outside of sites"):
        assert any(shown.strip().startswith(line) for shown in text.splitlines()), line
    assert "× faster at 2.32× fewer FLOPs" in words
    assert "without exact attention scores: loop" in words


def test_a_saved_plan_can_be_predicted_without_its_model(tmp_path: Path) -> None:
    saved = tmp_path / "plan.json"
    made = call("plan", "--model", "dit-xl-2-256", "--json", saved, "--on", "a100").output
    loaded = call("plan", "--plan", saved, "--on", "a100").output
    assert made.replace(f"plan saved: {saved}\n", "") == loaded


def test_plan_saves_loads_and_resamples(tmp_path: Path) -> None:
    saved, picture = tmp_path / "plan.json", tmp_path / "plan.png"
    made = call("plan", "--model", "pixart-xl-2-256", "--method", "toca", "--json", saved, "--png", picture)
    assert f"plan saved: {saved}\npicture saved: {picture}" in made.output.replace("\n\n", "\n")
    assert json.loads(saved.read_text(encoding="utf-8"))["steps"] == 20
    assert picture.stat().st_size > 10_000
    loaded = call("plan", "--plan", saved)
    assert loaded.output == made.output[: made.output.index("plan saved")]
    assert "10: 3 full, 7 partial, 0 reuse" in call("plan", "--plan", saved, "--steps", 10, "--resample").output


def test_generate_draws_and_reports(tmp_path: Path) -> None:
    output = tmp_path / "out.png"
    result = call("generate", "otter", "-o", output, "--model", "demo:random-class", "--steps", 10, "--method", "fora")
    assert result.exit_code == 0, result.output
    assert "FORA() on DiTTransformer2DModel 12 x 64" in result.output
    assert "10/10: " in result.stderr
    assert "▕█" in result.stderr
    assert result.stdout.replace("\n", "").endswith(f"picture saved: {output}")
    assert output.stat().st_size > 10_000


def test_the_bar_tells_kinds_of_steps_apart(capsys: pytest.CaptureFixture[str]) -> None:
    with step_bar() as on_step:
        for step in range(1, 45):
            kind = "full" if step % 4 == 1 else "reuse" if step > 40 else "partial"
            on_step(Progress("with cache", step, 50, kind))
    (line,) = capsys.readouterr().err.splitlines()
    # two steps in a cell, three cells left
    assert line.split("▕")[1].startswith("▓▒" * 10 + "▓·   ▏ 44/50: 11 full, 30 partial, 3 reuse")


def test_generate_compares_a_plan(tmp_path: Path) -> None:
    saved, output = tmp_path / "plan.json", tmp_path / "out.png"
    call("plan", "--model", "demo:random-class", "--steps", 10, "--interval", 2, "--json", saved)
    result = call("generate", 7, "-o", output, "--model", "demo:random-class", "--plan", saved, "--compare")
    assert result.exit_code == 0, result.output
    for phase in ("warm-up", "without cache", "with cache"):
        assert phase in result.stderr
    for part in ("× as fast", "× fewer", "PSNR"):
        assert part in result.stdout


def test_warnings_are_one_line(tmp_path: Path) -> None:
    result = call("generate", "1", "-o", tmp_path / "out.png", "--model", "demo:random-class", "--steps", 4)
    assert result.exit_code == 0, result.output
    assert "warning: a run of 4 steps leaves caching little to save" in result.stderr.splitlines()


def test_warnings_of_others_go_where_they_went(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(DeprecationWarning, match="old"):
        _warn_twice()
    assert capsys.readouterr().err == "warning: new\n"


def _warn_twice() -> None:
    with shown_warnings():
        warnings.simplefilter("always", DeprecationWarning)
        warnings.warn("tocache: new", TocacheWarning, stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)


def test_models_lists_families_presets_and_demos() -> None:
    result = call("models")
    assert result.exit_code == 0
    for text in ("DiTTransformer2DModel", "pixart-xl-2-1024", "paper-n4", "cross-attention, mlp", "demo:random-text"):
        assert text in result.output


def test_doctor_prints_versions_and_devices() -> None:
    result = call("doctor")
    assert result.exit_code == 0
    for text in ("versions", "diffusers", "devices", "cpu", "kernels"):
        assert text in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("plan --model dit-xl-2-256 --method fora --fresh-ratio 0.1", "method 'fora' has no option 'fresh_ratio'"),
        ("plan --model dit-xl-2-256 --interval 0", "interval=0 is not allowed; allowed: an integer >= 1"),
        ("plan --model dit-xl-2-256 --interval few", "Invalid value for '--interval'"),
        ("plan --model dit-xl-2-256 --method toka", "unknown method 'toka'"),
        ("plan --model dit-xl-2-256 --json missing/plan.json", "missing/plan.json: cannot be written"),
        ("plan --model unknown", "unknown model 'unknown'"),
        ("plan", "give a model"),
        ("plan --model dit-xl-2-256 --on h10", "unknown processor 'h10'"),
        ("plan --model dit-xl-2-256 --on h100 --dtype fp32", "a prediction needs a plan in bf16 or fp16"),
        ("plan --model dit-xl-2-256 --attained 0.5", "attained needs on"),
        ("plan --plan missing.json", "missing.json: No such file"),
        ("plan --model dit-xl-2-256 --typo", "No such option: --typo"),
        ("generate", "Missing argument"),
        ("generate otter -o missing/out.png", "there is no folder 'missing'"),
        ("generate otter -o out.png --device abacus", "device='abacus' is not available here"),
        ("paint", "No such command 'paint'"),
    ],
)
def test_errors_are_one_line(arguments: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*arguments.split())
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_a_plan_file_alone_takes_no_other_batch(tmp_path: Path) -> None:
    saved = tmp_path / "plan.json"
    call("plan", "--model", "dit-xl-2-256", "--json", saved)
    result = call("plan", "--plan", saved, "--dtype", "fp32")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: dtype needs a model; the plan file alone says what it was made for\n",
    )


def test_other_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("tocache.doctor.diagnose", broken)
    assert isinstance(call("doctor").exception, ZeroDivisionError)


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tocache.doctor.diagnose", interrupt)
    assert call("doctor").exit_code == 130


def test_programs_may_call_it_without_exits() -> None:
    command = typer.main.get_command(app)
    with pytest.raises(tocache.OptionError, match="give a model"):
        command.main(["plan"], standalone_mode=False)


def test_the_command_line_itself_loads_nothing_heavy() -> None:
    """Help must be quick: beside what `import tocache` loads, the commands load the rest where they need it."""
    source = Path(tocache.__file__).parent
    program = (
        "import sys, types\n"
        f"package = types.ModuleType('tocache'); package.__path__ = [{str(source)!r}]\n"
        "sys.modules['tocache'] = package\n"
        "import tocache.cli.app\n"
        "print(sorted({'torch', 'diffusers', 'transformers', 'matplotlib', 'numpy'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_python_m(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(tocache.__file__).parents[1])}
    command = [sys.executable, "-m", "tocache", "plan", "--model", "nothing"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: unknown model 'nothing'")
