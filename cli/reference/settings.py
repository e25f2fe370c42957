"""The settings page: one row per field of ``Settings``."""

import types
import typing
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

from pydantic.fields import FieldInfo

from core.settings import Settings

KIBIBYTE = 1024
HEADER = """\
# Settings

<!-- Written by `python -m cli.reference`; edit the descriptions in `core/settings.py`. -->

Tuneward reads environment variables and nothing else. Every process of one installation must see
the same values. Durations are seconds (`90`) or ISO 8601 (`PT90S`); rates run from 0 to 1. A source
of rows is `resource:` (shipped), `path:` (a file on this machine) or `hub:org/name@revision/file`
(Hugging Face).

| variable | type | default | meaning |
|---|---|---|---|
"""


def render() -> str:
    """Return the page as Markdown."""
    rows = (_row(name, field) for name, field in Settings.model_fields.items())
    return HEADER + "".join(rows)


def _row(name: str, field: FieldInfo) -> str:
    prefix = Settings.model_config.get("env_prefix", "")
    cells = (
        f"`{prefix}{name.upper()}`",
        _type_name(field.annotation),
        _default(name, field.default),
        (field.description or "").replace("|", "\\|"),
    )
    return f"| {' | '.join(cells)} |\n"


def _type_name(annotation: object) -> str:
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is Annotated:
        return _type_name(arguments[0])
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f"`{member.value}`" for member in annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in {types.UnionType, typing.Union}:
        return _type_name(next(part for part in arguments if part is not types.NoneType))
    names = {int: "integer", float: "number", str: "text", Path: "path", timedelta: "duration"}
    return names.get(typing.cast("type", annotation), getattr(annotation, "__name__", "text"))


def _default(name: str, value: object) -> str:
    if value is None:
        return "unset"
    if name.endswith("_bytes") and isinstance(value, int):
        size = f"{value // KIBIBYTE**2} MiB" if value >= KIBIBYTE**2 else f"{value // KIBIBYTE} KiB"
        return f"`{value}` ({size})"
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g} s"
    return f"`{value}`"
