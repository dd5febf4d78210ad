"""Sampling into a folder: what is drawn, what it depends on, and that it goes on where it was stopped."""

from __future__ import annotations

import hashlib
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from tocache.errors import OptionError, SamplesError, SamplingError
from tocache.samples import Samples
from tocache.sampling import Sampled, Settings, sample
from tocache.sampling.workers import Here

from .nothing import Nothing, bytes_of, prompts

NUM = 30


def draw(folder: Path, drawer: Nothing | None = None, **options: Any) -> Sampled:
    """30 pictures in batches of 4 and shards of 10, with a drawer that draws nothing."""
    settings = Settings(batch=options.pop("batch", 4), seed=options.pop("seed", 0))
    given = options.pop("prompts", prompts(NUM))
    return sample(settings, given, folder, load=lambda: drawer or Nothing(), **{"shard": 10} | options)


class Stopping(Nothing):
    """Raises `error` at its so-manieth call."""

    def __init__(self, at: int, error: BaseException) -> None:
        super().__init__()
        self.at, self.error = at, error

    def draw(self, *arguments: Any) -> Any:
        if len(self.calls) == self.at:
            raise self.error
        return super().draw(*arguments)


@pytest.mark.parametrize("format", ["png", "tar"])
class TestFolder:
    def test_holds_every_picture_with_its_prompt_and_seed(self, tmp_path: Path, format: str) -> None:
        sampled = draw(tmp_path, format=format)
        assert (sampled.state.done, sampled.state.open, sampled.interrupted) == (NUM, 0, False)
        samples = Samples(tmp_path)
        assert (samples.asked, samples.recorded) == (NUM, NUM)
        for i, (row, pixels) in enumerate(samples.images()):
            assert (row.index, row.prompt, row.seed) == (i, f"prompt {i}", i)
            np.testing.assert_array_equal(pixels, Nothing().picture(f"prompt {i}", i))
        assert all(hashlib.sha256(data).hexdigest() == row.sha256 for row, data in samples.files())
        names = {path.name for path in (tmp_path / "images").iterdir()}
        assert names == {f"00000{i}{'.tar' if format == 'tar' else ''}" for i in range(3)}

    def test_a_second_call_draws_nothing_and_changes_nothing(self, tmp_path: Path, format: str) -> None:
        draw(tmp_path, format=format)
        before = bytes_of(tmp_path)
        drawer = Nothing()
        assert draw(tmp_path, drawer, format=format).state.now == 0
        assert drawer.calls == []
        assert bytes_of(tmp_path) == before

    @pytest.mark.parametrize("at", [0, 1, 3, 7])
    @pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError("full")])
    def test_goes_on_where_it_was_stopped(self, tmp_path: Path, format: str, at: int, error: BaseException) -> None:
        draw(tmp_path / "whole", format=format)
        if isinstance(error, KeyboardInterrupt):
            assert draw(tmp_path / "parts", Stopping(at, error), format=format).interrupted
        else:
            with pytest.raises(SamplingError, match=rf"pictures {4 * at} … {4 * at + 3} cannot be drawn: MemoryError"):
                draw(tmp_path / "parts", Stopping(at, error), format=format)
        assert Samples(tmp_path / "parts").recorded == 4 * at  # nothing that was drawn is lost
        drawer = Nothing()
        draw(tmp_path / "parts", drawer, format=format)
        assert len(drawer.calls) == 8 - at
        assert bytes_of(tmp_path / "parts") == bytes_of(tmp_path / "whole")

    def test_grows(self, tmp_path: Path, format: str) -> None:
        """The last batch and the last shard were not full before."""
        draw(tmp_path / "whole", format=format)
        draw(tmp_path / "parts", format=format, num=13)
        assert Samples(tmp_path / "parts").asked == 13
        draw(tmp_path / "parts", format=format, num=NUM)
        assert bytes_of(tmp_path / "parts") == bytes_of(tmp_path / "whole")
        with pytest.raises(OptionError, match=rf"was begun for {NUM} pictures: --num may be raised, but not lowered"):
            draw(tmp_path / "parts", format=format, num=13)

    def test_asks_for_no_fewer_although_so_many_are_not_drawn_yet(self, tmp_path: Path, format: str) -> None:
        assert draw(tmp_path, Stopping(1, KeyboardInterrupt()), format=format).interrupted
        assert Samples(tmp_path).recorded == 4
        before = bytes_of(tmp_path)
        with pytest.raises(OptionError, match="may be raised, but not lowered to 13"):
            draw(tmp_path, format=format, num=13)
        assert bytes_of(tmp_path) == before

    def test_what_was_deleted_is_drawn_anew(self, tmp_path: Path, format: str) -> None:
        draw(tmp_path, format=format)
        before = bytes_of(tmp_path)
        if format == "tar":
            (tmp_path / "images/000001.tar").unlink()
        else:
            (tmp_path / "images/000001/00000013.png").unlink()
            (tmp_path / "images/000001/00000014.png").write_bytes(b"cut off")
        drawer = Nothing()
        draw(tmp_path, drawer, format=format)
        assert len(drawer.calls) == (3 if format == "tar" else 1)
        assert bytes_of(tmp_path) == before


class TestPictures:
    def test_depend_on_seed_and_index_alone(self, tmp_path: Path) -> None:
        """The order in which batches come changes nothing."""

        class Backwards(Here):
            def draw(self, batches: Any) -> Any:
                yield from super().draw(reversed(list(batches)))

        draw(tmp_path / "forwards")
        draw(tmp_path / "backwards", start=Backwards)
        assert bytes_of(tmp_path / "backwards") == bytes_of(tmp_path / "forwards")

    def test_are_always_drawn_with_the_same_others(self, tmp_path: Path) -> None:
        """The last batch is drawn whole, too: the prompts begin anew."""
        drawer = Nothing()
        draw(tmp_path, drawer, prompts=prompts(6), num=10)
        assert drawer.calls == [tuple(f"prompt {i % 6}" for i in range(start, start + 4)) for start in (0, 4, 8)]

    def test_of_one_run_have_different_seeds_and_runs_share_none(self, tmp_path: Path) -> None:
        for seed in (0, 1, 7):
            draw(tmp_path / str(seed), seed=seed)
        seeds = [row.seed for seed in (0, 1, 7) for row in Samples(tmp_path / str(seed)).rows()]
        assert len(set(seeds)) == 3 * NUM
        assert all(0 <= seed < 2**32 for seed in seeds)


class TestPoison:
    def test_is_skipped_and_the_others_are_drawn_in_full_batches(self, tmp_path: Path) -> None:
        drawer = Nothing()
        sampled = draw(tmp_path, drawer, prompts=prompts(NUM, at_5="poison", at_21="black"))
        assert sampled.reasons == {5: "ValueError: cannot say 'poison'", 21: "black"}
        assert (sampled.state.done, sampled.state.skipped, sampled.state.open) == (NUM - 2, 2, 0)
        rows = {row.index: row for row in Samples(tmp_path).rows()}
        assert rows[5].prompt == "poison"
        assert rows[5].error == "ValueError: cannot say 'poison'"
        assert rows[5].file is None
        assert len(rows) == NUM
        # its place is taken by another prompt, so that the call has the same shape
        assert drawer.calls[-6 - 1] == ("prompt 4", "prompt 4", "prompt 6", "prompt 7")

    def test_leaves_the_bits_of_the_others_alone(self, tmp_path: Path) -> None:
        draw(tmp_path / "sound")
        draw(tmp_path / "poisoned", prompts=prompts(NUM, at_5="poison", at_21="black"))
        sound, poisoned = (bytes_of(tmp_path / name) for name in ("sound", "poisoned"))
        pictures = {name for name in sound if name.endswith(".png")}
        assert {name for name in pictures if name in poisoned and poisoned[name] == sound[name]} == pictures - {
            "images/000000/00000005.png",
            "images/000002/00000021.png",
        }

    @pytest.mark.parametrize("format", ["png", "tar"])
    def test_stays_skipped_until_it_is_asked_for_again(self, tmp_path: Path, format: str) -> None:
        given = prompts(NUM, at_5="poison", at_21="poison")

        class Cured(Nothing):
            def draw(self, given: Any, seeds: Any) -> Any:
                self.calls.append(tuple(given))
                return [self.picture(prompt, seed) for prompt, seed in zip(given, seeds, strict=True)]

        draw(tmp_path / "cured", Cured(), prompts=given, format=format)
        draw(tmp_path / "again", prompts=given, format=format)
        drawer = Cured()
        assert draw(tmp_path / "again", drawer, prompts=given, format=format).state.skipped == 2
        assert drawer.calls == []
        assert draw(tmp_path / "again", drawer, prompts=given, format=format, retry_skipped=True).state.skipped == 0
        assert len(drawer.calls) == 2
        assert bytes_of(tmp_path / "again") == bytes_of(tmp_path / "cured")

    def test_a_whole_batch_of_it_is_skipped(self, tmp_path: Path) -> None:
        sampled = draw(tmp_path, prompts=prompts(NUM, **{f"at_{i}": "poison" for i in range(4, 8)}))
        assert sorted(sampled.reasons) == [4, 5, 6, 7]
        assert sampled.state.done == NUM - 4

    def test_is_known_when_its_batch_is_drawn_again(self, tmp_path: Path) -> None:
        given = prompts(NUM, at_5="poison")
        draw(tmp_path, prompts=given)
        (tmp_path / "images/000000/00000006.png").unlink()
        drawer = Nothing()
        draw(tmp_path, drawer, prompts=given)
        assert drawer.calls == [("prompt 4", "prompt 4", "prompt 6", "prompt 7")]

    @pytest.mark.parametrize("ahead", [0, 1, 2], ids="{} batches ahead".format)
    def test_too_much_of_it_ends_the_run(self, tmp_path: Path, ahead: int) -> None:
        given = prompts(NUM, at_1="poison", at_5="poison", at_9="poison")

        class Ahead(Here):
            """Has always drawn `ahead` batches more than it has given away."""

            def draw(self, batches: Any) -> Any:
                for batch in batches:
                    self._waiting.append(self._begin(batch))
                    if len(self._waiting) > ahead:
                        yield self._first()
                while self._waiting:
                    yield self._first()

        with pytest.raises(SamplingError, match=r"2 prompts could not be drawn, that of picture 5 .*--max-skipped"):
            draw(tmp_path, prompts=given, max_skipped=1, start=Ahead)
        drawer = Nothing()
        assert draw(tmp_path, drawer, prompts=given, max_skipped=1).state.skipped == 3  # counted anew in each call
        assert drawer.calls[0][0] == f"prompt {8 + 4 * ahead}"  # what was ready is kept

    def test_an_error_of_no_prompt_is_tried_once_more(self, tmp_path: Path) -> None:
        draw(tmp_path / "sound")
        draw(tmp_path / "hiccup", Nothing(errors=[OSError("lost the network")]))
        assert bytes_of(tmp_path / "hiccup") == bytes_of(tmp_path / "sound")


class TestConfiguration:
    def test_another_one_is_refused_and_what_differs_is_named(self, tmp_path: Path) -> None:
        draw(tmp_path, num=10)
        before = bytes_of(tmp_path)
        with pytest.raises(OptionError, match="was begun with another configuration") as caught:
            draw(tmp_path, batch=8, seed=3, format="tar", shard=20, prompts=prompts(31))
        named = ("batch: 4 there, 8 here", "seed: 0 there, 3 here", "format: png there, tar here", "shard: 10 there")
        for part in (*named, "prompts: 30 there, 31 here", "prompts sha256: "):
            assert part in str(caught.value)
        with pytest.raises(OptionError, match="hardware: none there, abacus here"):
            draw(tmp_path, Nothing(told={"hardware": "abacus"}))
        assert bytes_of(tmp_path) == before

    def test_a_folder_of_something_else_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("x")
        with pytest.raises(OptionError, match="holds other files"):
            draw(tmp_path)
        with pytest.raises(OptionError, match="is not a folder"):
            draw(tmp_path / "thesis.tex")
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]

    def test_where_nothing_can_begin_no_folder_stays(self, tmp_path: Path) -> None:
        def load() -> Nothing:
            raise OptionError("no such model")

        with pytest.raises(OptionError, match="no such model"):
            sample(Settings(), prompts(3), tmp_path / "new", load=load)
        assert not (tmp_path / "new").exists()

    def test_one_process_at_a_time(self, tmp_path: Path) -> None:
        draw(tmp_path, num=10)
        with FileLock(tmp_path / ".lock"), pytest.raises(SamplesError, match="another process is writing into it"):
            draw(tmp_path)

    @pytest.mark.parametrize("options", [{"num": 0}, {"shard": 0}, {"format": "gif"}])
    def test_what_cannot_be_is_refused(self, tmp_path: Path, options: dict[str, Any]) -> None:
        with pytest.raises(OptionError, match=next(iter(options))):
            draw(tmp_path / "new", **options)
        assert not (tmp_path / "new").exists()


def test_a_full_disk_is_told_and_nothing_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "whole")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tocache.sampling.files.os.replace", full)
        with pytest.raises(SamplingError, match="cannot be written: No space left on device"):
            draw(tmp_path / "parts")
    draw(tmp_path / "parts")
    assert bytes_of(tmp_path / "parts") == bytes_of(tmp_path / "whole")


def test_half_a_line_is_cut_off(tmp_path: Path) -> None:
    draw(tmp_path / "whole")
    draw(tmp_path / "parts", Stopping(3, KeyboardInterrupt()))
    manifest = tmp_path / "parts" / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    draw(tmp_path / "parts")
    assert bytes_of(tmp_path / "parts") == bytes_of(tmp_path / "whole")


def test_the_state_is_told_after_each_batch(tmp_path: Path) -> None:
    told: list[Any] = []
    draw(tmp_path, Stopping(3, KeyboardInterrupt()))
    draw(tmp_path, tell=told.append)
    assert [(state.done, state.now, state.workers) for state in told] == [
        (min(4 * i, NUM), min(4 * i, NUM) - 12, 1) for i in range(4, 9)
    ]


def test_the_configuration_says_what_was_asked_and_where(tmp_path: Path) -> None:
    sample(Settings(batch=4, guidance=2.5), prompts(3), tmp_path, load=partial(Nothing))
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["batch"], config["guidance"], config["num"], config["drawn on"]) == (4, 2.5, 3, {"hardware": "none"})
    assert re.fullmatch("[0-9a-f]{64}", config["prompts sha256"])
