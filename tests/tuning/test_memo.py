from __future__ import annotations

import numpy as np
import pytest

from tocache.errors import OptionError
from tocache.tuning.memo import LINES, Memo


def never():
    raise AssertionError("measured again")


def test_what_was_measured_is_not_measured_again(tmp_path):
    with Memo(tmp_path / "trials", {"model": "m"}) as memo:
        assert memo.value("a", lambda: [0.1, 2]) == [0.1, 2]
        assert memo.arrays("b", lambda: {"x": np.arange(3)})["x"].tolist() == [0, 1, 2]
        assert memo.value("a", never) == [0.1, 2]
    with Memo(tmp_path / "trials", {"model": "m"}) as memo:
        assert memo.value("a", never) == [0.1, 2]
        assert memo.arrays("b", never)["x"].tolist() == [0, 1, 2]
        assert memo.made == 0


def test_a_line_that_was_cut_off_is_measured_again_and_the_others_stay(tmp_path):
    with Memo(tmp_path, {}) as memo:
        memo.value("a", lambda: 1)
        memo.value("b", lambda: 2)
    path = tmp_path / LINES
    path.write_bytes(path.read_bytes()[:-4])
    with Memo(tmp_path, {}) as memo:
        assert memo.value("a", never) == 1
        assert memo.value("b", lambda: 3) == 3
    with Memo(tmp_path, {}) as memo:
        assert memo.value("b", never) == 3


def test_a_folder_is_begun_anew_where_not_even_its_first_line_was_written(tmp_path):
    (tmp_path / LINES).write_bytes(b'{"format": "toc')
    with Memo(tmp_path, {}) as memo:
        assert memo.value("a", lambda: 1) == 1
    with Memo(tmp_path, {}) as memo:
        assert memo.value("a", never) == 1


def test_trials_of_something_else_are_refused_by_name(tmp_path):
    with Memo(tmp_path, {"model": "m", "steps": 20}):
        pass
    with pytest.raises(OptionError, match=r"steps=20, not 50"):
        Memo(tmp_path, {"model": "m", "steps": 50})


def test_a_folder_in_use_is_refused(tmp_path):
    with Memo(tmp_path, {}), pytest.raises(OptionError, match="in use"):
        Memo(tmp_path, {})


@pytest.mark.parametrize("text", ["x\n", "[]\n", "{}\n", '{"format": "tocache-trials"}\n', '{"format": "other"}\n'])
def test_a_file_that_holds_no_trials_is_refused_and_kept(tmp_path, text):
    (tmp_path / LINES).write_text(text)
    with pytest.raises(OptionError, match="holds no trials"):
        Memo(tmp_path, {})
    assert (tmp_path / LINES).read_text() == text


def test_without_a_folder_all_is_kept_in_memory():
    with Memo(None, {}) as memo:
        assert memo.value("a", lambda: 1) == memo.value("a", never) == 1
