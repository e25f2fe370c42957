"""Filling `{{item.x}}` and `{{sample.output_text}}` into a text.

No template language: a name is looked up and nothing is computed. What is filled in is not read
again, so an answer with braces in it stays as it is.
"""

import json
import re
from collections.abc import Mapping
from typing import Final, cast

from pydantic import JsonValue

from core.strict_json import StrictJsonError, parse_strict

MAX_RENDERED: Final = 100_000
_PLACE: Final = re.compile(r"\{\{([^{}]*)\}\}")
_NAME: Final = re.compile(r"item(\.\w+)+|sample\.output_text|sample\.output_json(\.\w+)*")


class WrongNameError(ValueError):
    """A place names nothing that a grader can see."""


class MissingValueError(LookupError):
    """The item has no such value."""


class SampleNotJsonError(ValueError):
    """A place reads the sample as JSON, and it is none."""


class RenderedTooLongError(ValueError):
    """The text has become longer than is graded."""


def names_in(template: str) -> list[str]:
    """List the names that a template reads.

    Raises:
        WrongNameError: One of them names nothing there could be.
    """
    names = [match.group(1).strip() for match in _PLACE.finditer(template)]
    if not all(_NAME.fullmatch(name) for name in names):
        raise WrongNameError
    return names


def render(template: str, item: Mapping[str, JsonValue], sample: str) -> str:
    """Fill a template whose names were checked.

    Raises:
        MissingValueError: The item or the sample's JSON has no such value.
        RenderedTooLongError: The text is longer than `MAX_RENDERED` characters.
        SampleNotJsonError: The sample is no JSON, and a place reads it so.
    """
    pieces: list[str] = []
    size, end = 0, 0
    for match in _PLACE.finditer(template):
        value = _value(match.group(1).strip(), item, sample)
        pieces += [template[end : match.start()], value]
        size += match.start() - end + len(value)
        end = match.end()
        if size > MAX_RENDERED:
            raise RenderedTooLongError
    return "".join([*pieces, template[end:]])


def _value(name: str, item: Mapping[str, JsonValue], sample: str) -> str:
    if name == "sample.output_text":
        return sample
    space, *path = name.split(".")
    found: JsonValue = dict(item)
    if space == "sample":
        found, path = _as_json(sample), path[1:]
    for key in path:
        if not isinstance(found, dict) or key not in found:
            raise MissingValueError
        found = found[key]
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def _as_json(sample: str) -> JsonValue:
    try:
        return cast("JsonValue", parse_strict(sample.encode()))
    except StrictJsonError:
        raise SampleNotJsonError from None
