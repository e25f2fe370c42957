"""What to say of an option that does not exist: the name that was probably meant, or all of them.

Only our own names are told; what the client sent is not repeated.
"""

import typing
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Final

from pydantic import BaseModel

_MOST_LISTED: Final = 12


def probably_meant(name: object, known: Collection[str]) -> str | None:
    """Find the known name that is nearly this one; None if none is."""
    near = get_close_matches(name, known, n=1) if isinstance(name, str) else []
    return near[0] if near else None


def unknown_option(name: str, known: Collection[str]) -> str:
    """Say that there is no such option, and which there are."""
    if near := probably_meant(name, known):
        return f"unknown option; did you mean {near}?"
    if 0 < len(known) <= _MOST_LISTED:
        return f"unknown option; known are {', '.join(known)}."
    return "unknown option."


def options_at(model: type[BaseModel], path: Iterable[str | int]) -> list[str]:
    """Name the fields of the object at this path of a body; empty where no model describes it."""
    found: type[BaseModel] | None = model
    for part in path:
        field = found.model_fields.get(str(part)) if found else None
        found = None if field is None else _model_in(field.annotation)
    return list(found.model_fields) if found else []


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Find the model that an annotation such as `Inner | None` allows."""
    for candidate in (annotation, *typing.get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
