"""Sampling on a real Ray of this machine: several workers, some of which are killed, and a node that is lost."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tocache.cli.app import app
from tocache.errors import OptionError, SamplingError
from tocache.samples import Samples
from tocache.sampling import Sampled, Settings, State, choose_workers, sample
from tocache.sampling.on_ray import DEATHS, DIED, HUNG, OnRay
from tocache.sampling.workers import Here

from . import nothing
from .nothing import Nothing, bytes_of, prompts

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

NUM = 120
PATIENCE = 10.0  # seconds; a busy machine takes some for a first batch


@dataclass
class Known(Nothing):
    """Leaves a file with its process's number, so that a test can kill it."""

    folder: Path = Path()

    def about(self) -> Mapping[str, Any]:
        self.folder.mkdir(exist_ok=True)
        (self.folder / str(os.getpid())).touch()
        return super().about()


class Different(Nothing):
    def about(self) -> Mapping[str, Any]:
        return {"hardware": os.getpid()}


class Broken(Nothing):
    def __init__(self, error: Exception) -> None:
        raise error


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head with two CPUs; this process is connected to it, so that runs here find it."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("RAY_USAGE_STATS_ENABLED", "0"), ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")):
            patch.setenv(name, value)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        memory = {"object_store_memory": 100 * 2**20}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False} | memory)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        ray.cloudpickle.register_pickle_by_value(nothing)  # workers need not find the tests
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield cluster
        ray.shutdown()
        cluster.shutdown()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def draw(
    folder: Path, load: Callable[[], Nothing] = Nothing, workers: int = 0, timeout: float | None = None, **options: Any
) -> Sampled:
    """120 pictures in batches of 4, on so many workers, or in this process."""
    start = partial(OnRay, count=workers, gpus=0, device="cpu", threads=1, timeout=timeout) if workers else Here
    given = options.pop("prompts", prompts(NUM))
    return sample(Settings(batch=4), given, folder, shard=50, load=load, start=start, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process draws."""
    folder = tmp_path_factory.mktemp("whole")
    draw(folder)
    return bytes_of(folder)


def test_the_same_bytes_as_of_one_process(cluster: Any, tmp_path: Path) -> None:
    draw(tmp_path / "one", format="tar")
    told: list[State] = []
    draw(tmp_path / "two", partial(Nothing, seconds=0.02), workers=2, format="tar", tell=told.append)
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")
    assert max(state.workers for state in told) == 2


def test_killed_workers_are_replaced(cluster: Any, tmp_path: Path, whole: dict[str, bytes]) -> None:
    killed: set[int] = set()

    def kill(state: State) -> None:
        alive = {int(path.name) for path in (tmp_path / "pids").iterdir()} - killed
        if state.now % 24 == 0 and len(killed) < 2 and alive:
            victim = random.Random(state.now).choice(sorted(alive))
            os.kill(victim, signal.SIGKILL)
            killed.add(victim)

    load = partial(Known, seconds=0.02, folder=tmp_path / "pids")
    sampled = draw(tmp_path / "s", load, workers=2, tell=kill)
    assert sampled.state.replaced == len(killed) == 2
    assert bytes_of(tmp_path / "s") == whole


def test_a_prompt_that_kills_its_worker_is_found_and_skipped(
    cluster: Any, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    given = prompts(NUM, at_17="kill", at_50="poison")
    sampled = draw(tmp_path, partial(Nothing, seconds=0.02), workers=2, prompts=given)
    assert dict(sampled.reasons) == {17: DIED, 50: "ValueError: cannot say 'poison'"}
    assert sampled.state.replaced == 3  # drawn with others, drawn alone, tried alone
    found = bytes_of(tmp_path)
    pictures = {name for name in whole if name.endswith(".png")}
    same = {name for name in pictures if found.get(name) == whole[name]}
    assert pictures - same == {"images/000000/00000017.png", "images/000001/00000050.png"}


def test_a_worker_that_hangs_is_replaced(cluster: Any, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """A stopped process is there, keeps its connections, and does nothing."""
    stopped: list[int] = []

    def stop(state: State) -> None:
        if state.now >= 24 and not stopped:
            stopped.append(min(int(path.name) for path in (tmp_path / "pids").iterdir()))
            os.kill(stopped[0], signal.SIGSTOP)

    load = partial(Known, seconds=0.02, folder=tmp_path / "pids")
    sampled = draw(tmp_path / "s", load, workers=2, timeout=PATIENCE, tell=stop)
    assert sampled.state.replaced == 1
    assert not sampled.reasons
    assert bytes_of(tmp_path / "s") == whole


def test_a_prompt_that_hangs_its_worker_is_found_and_skipped(cluster: Any, tmp_path: Path) -> None:
    sampled = draw(tmp_path, workers=2, timeout=PATIENCE, prompts=prompts(NUM, at_17="hang"))
    assert dict(sampled.reasons) == {17: HUNG}
    assert sampled.state.done == NUM - 1


def test_a_lost_node_costs_what_it_was_drawing(cluster: Any, tmp_path: Path, whole: dict[str, bytes]) -> None:
    node = cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    cluster.wait_for_nodes()
    workers: list[int] = []

    def lose(state: State) -> None:
        workers.append(state.workers)
        if max(workers) == 3 and node in cluster.worker_nodes:
            cluster.remove_node(node, allow_graceful=False)

    sampled = draw(tmp_path, partial(Nothing, seconds=0.2), workers=3, tell=lose)
    assert max(workers) == 3, "the workers never stood on both nodes"
    assert sampled.state.replaced == 1
    assert workers[-1] == 2  # there is no room for the one that replaced it
    assert bytes_of(tmp_path) == whole


def test_an_interrupt_keeps_what_is_finished(cluster: Any, tmp_path: Path, whole: dict[str, bytes]) -> None:
    def interrupt(state: State) -> None:
        if state.now >= 20:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    sampled = draw(tmp_path, partial(Nothing, seconds=0.02), workers=2, tell=interrupt)
    assert sampled.interrupted
    assert 20 <= sampled.state.done < NUM
    assert Samples(tmp_path).recorded == sampled.state.done
    draw(tmp_path, workers=2)
    assert bytes_of(tmp_path) == whole


def test_what_is_wrong_with_the_settings_is_told_as_it_is(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no such model"):
        draw(tmp_path / "s", partial(Broken, OptionError("no such model")), workers=2)
    assert not (tmp_path / "s").exists()


def test_workers_that_never_start_end_the_run(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(SamplingError, match=rf"{DEATHS} workers failed, .*: RuntimeError: no driver"):
        draw(tmp_path / "s", partial(Broken, RuntimeError("no driver")), workers=1)
    assert not (tmp_path / "s").exists()


def test_workers_that_differ_are_refused(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"workers differ .*hardware: \d+ there, \d+ here"):
        draw(tmp_path, partial(Different, seconds=0.2), workers=2)


def test_no_room_for_a_worker_is_said(cluster: Any, tmp_path: Path) -> None:
    start = choose_workers(Settings(), "auto", gpus_per_worker=1)
    with pytest.raises(OptionError, match=r"no room for a worker: one needs 1 GPUs and 1 CPUs, .* 2 CPUs, 0 GPUs"):
        sample(Settings(), prompts(3), tmp_path / "s", start=start)


def test_no_cluster_at_an_address_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_gcs_rpc_server_connect_timeout_s", "1")
    with pytest.raises(OptionError, match=r"ray='127\.0\.0\.1:1': no cluster answers there"):
        sample(Settings(), prompts(3), tmp_path / "s", start=choose_workers(Settings(), "127.0.0.1:1"))


def test_a_pipeline_draws_the_same_on_ray(cluster: Any, tmp_path: Path) -> None:
    """The command itself, with a pipeline and its cache, in one process and in two."""
    options = ["--model", "demo:random-class", "--classes", "0-9", "--num", "10", "--batch", "2", "--steps", "6"]
    options += ["--threads", "1", "--device", "cpu", "--method", "toca:interval=3"]
    for folder, more in (("one", []), ("two", ["--ray", "auto", "--workers", "2"])):
        result = CliRunner().invoke(app, ["sample", *options, *more, "-o", str(tmp_path / folder)])
        assert result.exit_code == 0, result.output
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")
