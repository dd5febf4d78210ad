"""Processes that sample and are killed, for real."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tocache.samples import Samples

from .nothing import bytes_of

PROGRAM = Path(__file__).with_name("nothing.py")
NUM = 2000
OPTIONS = (
    "--num",
    str(NUM),
    "--shard",
    "50",
    "--seconds",
    "0.005",
    "--special",
    '{"at_77": "poison", "at_1234": "black"}',
)


class Server:
    """Starts sampling processes without importing everything each time."""

    def __init__(self) -> None:
        command = [sys.executable, str(PROGRAM), "serve"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, *arguments: object) -> int:
        """The number of a process that samples."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([str(argument) for argument in arguments]) + "\n")
        self.process.stdin.flush()
        return self._read()

    def wait(self) -> int:
        """How the process ended: 0, or less than 0 for a signal."""
        return os.waitstatus_to_exitcode(self._read())

    def close(self) -> None:
        self.process.communicate()

    def _read(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def told(folder: Path) -> int:
    """How many pictures a process said to be there."""
    log = Path(f"{folder}.log")
    lines = log.read_text().splitlines() if log.exists() else []
    return max((int(line.split()[0]) for line in lines if line[:1].isdigit()), default=0)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["png", "tar"])
def test_killed_at_twenty_random_moments(tmp_path: Path, server: Server, format: str) -> None:
    """Nothing is lost that was said to be there, nothing is double, and all bytes are those of a run without a kill."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    server.start(whole, "--format", format, *OPTIONS)
    assert server.wait() == 0
    moments = random.Random(format)
    kills, most = 0, 0
    for _ in range(20):
        process = server.start(killed, "--format", format, *OPTIONS)
        further = most + moments.randrange(NUM // 20)  # by pictures: a busy machine is slower than a quiet one
        while told(killed) < further:
            time.sleep(0.005)
        time.sleep(moments.uniform(0.0, 0.04))
        os.kill(process, signal.SIGKILL)
        kills += server.wait() == -signal.SIGKILL
        if killed.exists() and (killed / "config.json").exists():
            recorded = Samples(killed).recorded  # which refuses two lines about one picture
            assert recorded >= max(most, told(killed))
            most = recorded
    assert kills == 20
    assert 0 < most < NUM, "the kills came too early or too late to mean anything"
    server.start(killed, "--format", format, *OPTIONS)
    assert server.wait() == 0
    assert bytes_of(killed) == bytes_of(whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ends_in_order_on_ctrl_c_and_sigterm(tmp_path: Path, server: Server, number: signal.Signals) -> None:
    folder = tmp_path / "s"
    process = server.start(folder, *OPTIONS)
    for _ in range(400):
        time.sleep(0.05)
        if Path(f"{folder}.log").exists() and told(folder) > 40:
            break
    os.kill(process, number)
    assert server.wait() == 0
    last = Path(f"{folder}.log").read_text().splitlines()[-1].split()
    done, skipped = int(last[1]), int(last[3])
    assert last[4:] == ["interrupted", "True"]
    assert Samples(folder).recorded == done + skipped < NUM
    assert not list(folder.rglob("*.tmp"))
