"""Thousands of pictures into a folder; the same call goes on where it was stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tocache.errors import OptionError, SamplingError, TocacheError
from tocache.planning import check_count
from tocache.samples import Layout
from tocache.sampling.batches import Batch, open_batches
from tocache.sampling.config import check_begun, locked, note_config
from tocache.sampling.drawer import PipelineDrawer
from tocache.sampling.drawn import Drawn
from tocache.sampling.interrupts import Interrupts
from tocache.sampling.progress import DONE, SKIPPED, Progress, read_progress
from tocache.sampling.prompts import Prompts
from tocache.sampling.settings import Settings
from tocache.sampling.workers import Here, Load, Workers
from tocache.sampling.writer import Writer

FORMATS = ("png", "tar")
_VERSION = 1


@dataclass(frozen=True)
class State:
    """How far a folder is, and who draws."""

    num: int
    done: int
    skipped: int
    now: int  # done or skipped since this call
    workers: int = 0
    replaced: int = 0

    @property
    def open(self) -> int:
        return self.num - self.done - self.skipped


@dataclass(frozen=True)
class Sampled:
    """What a call did."""

    folder: Path
    state: State
    seconds: float
    interrupted: bool
    reasons: Mapping[int, str]  # why pictures were skipped, by index


Teller = Callable[[State], None]
Start = Callable[[Load], Workers]


def sample(
    settings: Settings,
    prompts: Prompts,
    folder: str | Path,
    *,
    num: int | None = None,
    format: str = "png",
    shard: int = 1000,
    max_skipped: int = 100,
    retry_skipped: bool = False,
    load: Load | None = None,
    start: Start = Here,
    tell: Teller | None = None,
) -> Sampled:
    """Draws pictures 0 … num − 1 into `folder`, those that are not there yet; docs/scale.md describes the folder.

    num            None: one of each prompt; it may be raised later, and the folder grows
    format         "png": a folder of files per shard; "tar": WebDataset shards. Videos are .mp4 files in both
    shard          pictures of one shard
    max_skipped    prompts that may fail in this call before it gives up
    retry_skipped  draw those that failed in an earlier call
    load           makes what draws; None: the pipeline of `settings`
    start          makes the workers: `Here`, or one of `on_ray`
    tell           is called after each batch

    Ctrl-C and SIGTERM end it between two writes; `interrupted` is set then.

    Raises OptionError where the folder was begun with another configuration, which it names; SamplesError where the
    folder is broken or another process writes into it; SamplingError where the workers fail, nothing can be written, or
    more than `max_skipped` prompts fail; and what `load_pipeline` and `enable` raise. What was drawn is kept.
    """
    root = Path(folder)
    count = len(prompts) if num is None else num
    check_count("num", count)
    check_count("shard", shard)
    if format not in FORMATS:
        raise OptionError(f"format={format!r} is not allowed; allowed: {', '.join(FORMATS)}")
    asked = {
        "version": _VERSION,
        "format": format,
        "shard": shard,
        **settings.described(),
        "prompts": len(prompts),
        "prompts sha256": prompts.digest,
    }
    layout, began, interrupted = Layout(root, shard), time.perf_counter(), False
    with locked(root):
        check_begun(layout, asked, count)
        tar = format == "tar"
        run = _Run(read_progress(layout, count, tar=tar, retry_skipped=retry_skipped), max_skipped, tell)
        try:
            with run.interrupts.caught(), ExitStack() as stack:
                if run.state().open:
                    run.workers = stack.enter_context(closing(start(load or partial(PipelineDrawer, settings))))
                    note_config(layout, asked, run.workers.about(), count)
                with Writer(layout, run.progress, tar=tar) as writer:
                    run.draw(writer, open_batches(run.progress, prompts, seed=settings.seed, size=settings.batch))
                    writer.finish()
        except KeyboardInterrupt:
            interrupted = True
        except OSError as error:
            raise SamplingError(f"{root}: cannot be written: {error.strerror or error}") from error
        return Sampled(root, run.state(), time.perf_counter() - began, interrupted, run.progress.reasons)


class _Run:
    """What one call of `sample` keeps in mind."""

    def __init__(self, progress: Progress, max_skipped: int, tell: Teller | None) -> None:
        self.progress, self.interrupts = progress, Interrupts()
        self.workers: Workers | None = None
        self._max_skipped, self._tell, self._skipped = max_skipped, tell, 0
        self._before = progress.count(DONE) + progress.count(SKIPPED)

    def state(self) -> State:
        done, skipped = self.progress.count(DONE), self.progress.count(SKIPPED)
        drawing = (self.workers.count, self.workers.replaced) if self.workers else (0, 0)
        return State(self.progress.num, done, skipped, done + skipped - self._before, *drawing)

    def draw(self, writer: Writer, batches: Iterable[Batch]) -> None:
        """Draws and writes all of `batches`. Whatever ends it, what the workers have finished is written first."""
        if self.workers is None:
            return
        try:
            for drawn in self.workers.draw(batches):
                self._write(writer, drawn)
                self._check_skipped(drawn)
                if self._tell is not None:
                    self._tell(self.state())
        except (KeyboardInterrupt, TocacheError):
            for drawn in self.workers.finished():  # what it holds does not change why the run ends
                self._write(writer, drawn)
            raise

    def _write(self, writer: Writer, drawn: Drawn) -> None:
        with self.interrupts.shielded():
            writer.write(drawn)
        self._skipped += len(drawn.skipped)

    def _check_skipped(self, drawn: Drawn) -> None:
        if self._skipped > self._max_skipped:
            row, reason = next(iter(drawn.skipped.items()))
            raise SamplingError(
                f"{self._skipped} prompts could not be drawn, that of picture {drawn.batch.start + row} for one: "
                f"{reason}; --max-skipped lets more of them be skipped"
            )
