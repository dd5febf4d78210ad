from __future__ import annotations

import pytest

from tocache.errors import OptionError
from tocache.tuning.memo import Memo


def test_what_was_measured_is_not_measured_again(tmp_path):
    path = tmp_path / "trials.json"
    assert Memo(path, {"model": "m"}).loss((0, 2), lambda full: 0.5) == 0.5

    def never(full):
        raise AssertionError(full)

    assert Memo(path, {"model": "m"}).loss((0, 2), never) == 0.5


def test_trials_of_something_else_are_refused_by_name(tmp_path):
    path = tmp_path / "trials.json"
    Memo(path, {"model": "m", "steps": 20}).loss((0,), lambda full: 1.0)
    with pytest.raises(OptionError, match=r"steps=20, not 50"):
        Memo(path, {"model": "m", "steps": 50})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "tocache-trials"}', '{"format": "other"}'])
def test_a_file_that_holds_no_trials_is_refused_and_kept(tmp_path, text):
    path = tmp_path / "trials.json"
    path.write_text(text)
    with pytest.raises(OptionError, match="holds no trials"):
        Memo(path, {})
    assert path.read_text() == text
