"""A method as one word."""

from __future__ import annotations

import pytest

from tocache.errors import OptionError, UnknownNameError
from tocache.methods import METHODS, DuCa, TaylorSeer, ToCa
from tocache.methods.spec import make_method, parse_method
from tocache.planning import method_from


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("taylorseer", TaylorSeer()),
        ("taylorseer:order=2:where=stack", TaylorSeer(order=2, where="stack")),
        ("duca:fresh_ratio=0.2", DuCa(fresh_ratio=0.2)),
        ('toca:share=step:scores={"norm": 1, "drift": 0.5}', ToCa(share="step", scores={"norm": 1, "drift": 0.5})),
        ("toca:together=false:interval=4", ToCa(4, together=False)),
        ("toca:queries=0.1", ToCa(queries=0.1)),
    ],
)
def test_values_are_json_or_plain_words(text, method):
    name, options = parse_method(text, METHODS)
    assert make_method(name, options, METHODS) == method == method_from(text)


def test_options_of_its_own_come_on_top():
    assert method_from("taylorseer:order=2", interval=5) == TaylorSeer(5, order=2)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("taylorser", UnknownNameError, "unknown method 'taylorser'; did you mean 'taylorseer'"),
        (":order=2", UnknownNameError, "unknown method"),
        ("fora:order=2", OptionError, "method 'fora' has no option 'order'; its options: interval"),
        ("fora:interval", OptionError, "option 'interval' has no value; write interval=…"),
        ("fora:interval=x", OptionError, "interval='x' is not allowed"),
        ("toca:scores={", OptionError, "scores='{' is not allowed"),
    ],
)
def test_what_cannot_be_read_names_what_is_known(text, error, message):
    with pytest.raises(error, match=message):
        method_from(text)
