"""A method as one word: its name, and the options that are not at their defaults.

taylorseer:order=2:where=stack        toca:share=step:scores={"norm": 1}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from tocache.errors import OptionError, UnknownNameError
from tocache.methods.base import Method


def parse_method(text: str, methods: Mapping[str, type[Method]]) -> tuple[str, dict[str, Any]]:
    """Name and options of a method written as `name:option=value:…`; values are JSON, or plain words.

    Raises UnknownNameError for another name, OptionError for another option.
    """
    name, *options = split_outside_brackets(text, ":")
    if name not in methods:
        raise UnknownNameError.of("method", name, methods)
    return name, dict(_option(name, option, methods[name]) for option in options)


def make_method(name: str, options: Mapping[str, Any], methods: Mapping[str, type[Method]]) -> Method:
    """The method of that name. Raises UnknownNameError and OptionError, which list what is known."""
    if name not in methods:
        raise UnknownNameError.of("method", name, methods)
    for option in options:
        _check_known(name, option, methods[name])
    return methods[name](**options)


def split_outside_brackets(text: str, separator: str) -> list[str]:
    """The parts of `text` between separators that stand in no brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "{[(") - (character in "}])")
        if character == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()] or [""]


def _option(name: str, text: str, method: type[Method]) -> tuple[str, Any]:
    option, equals, value = text.partition("=")
    _check_known(name, option if equals else text, method)
    if not equals:
        raise OptionError(f"method {name!r}: option {option!r} has no value; write {option}=…")
    try:
        return option, json.loads(value)
    except ValueError:
        return option, value


def _check_known(name: str, option: str, method: type[Method]) -> None:
    known: Sequence[str] = [field.name for field in fields(method)]  # type: ignore[arg-type]
    if option not in known:
        raise OptionError(f"method {name!r} has no option {option!r}; its options: {', '.join(known) or 'none'}")
