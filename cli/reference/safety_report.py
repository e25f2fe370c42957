"""The safety report's page: one table per part, and the JSON Schema as a file of its own."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from core.safety_report import NOT_PROMISED, SafetyReport

SCHEMA_FILE = "safety-report.schema.json"
HEADER = f"""\
# Safety report

<!-- Written by `python -m cli.reference`; edit the descriptions in `core/safety_report.py`. -->

`GET /v1/fine_tuning/jobs/{{id}}/safety_report` gives it, of released and blocked jobs alike, and it
lies in the archive as `report.json`. [{SCHEMA_FILE}]({SCHEMA_FILE}) is its JSON Schema, which
reports of version 1 keep too. Rates come with Wilson's 95 % interval. Models: `base` is the public
one, `aligned` the one that jobs begin with, `tuned` the trained one without the guard's move,
`guarded` the one that is released.

`GET /v1/fine_tuning/jobs/{{id}}/safety_report/answers` gives every prompt and answer as JSON Lines:
`id`, `source`, `category`, `prompt`, `model`, `answer`, `outcome`, `second_outcome`,
`harmful_score`, `refusal_score`, `incoherence_reason`.

"""
ANYTHING = "JsonValue"
NOT_SHOWN = "\n## What it does not promise\n\n"


def render() -> str:
    """Return the page as Markdown."""
    schema = SafetyReport.model_json_schema()
    parts = {"SafetyReport": schema, **schema["$defs"]}
    tables = "\n".join(_part(name, part) for name, part in _in_order(parts))
    promises = "".join(f"- {sentence}\n" for sentence in NOT_PROMISED)
    return HEADER + tables + NOT_SHOWN + promises


def render_schema() -> str:
    """Return the JSON Schema."""
    return json.dumps(SafetyReport.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def _in_order(parts: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Go from the report to its parts, each where it is first named."""
    waiting, seen = ["SafetyReport"], {"SafetyReport"}
    while waiting:
        name = waiting.pop(0)
        part = parts[name]
        if "properties" not in part:
            continue
        yield name, part
        for found in _named(part):
            if found not in seen:
                seen.add(found)
                waiting.append(found)


def _named(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "$ref":
                yield str(inner).rpartition("/")[2]
            elif key != "$defs":
                yield from _named(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner)


def _part(name: str, part: Mapping[str, Any]) -> str:
    summary = str(part["description"]).split("\n")[0]
    rows = "".join(
        f"| `{field}` | {_type(facts)} | {facts['description']} |\n"
        for field, facts in part["properties"].items()
    )
    return f"## {name}\n\n{summary}\n\n| field | type | meaning |\n|---|---|---|\n{rows}"


def _type(facts: Mapping[str, Any]) -> str:
    match facts:
        case {"$ref": str(place)}:
            name = place.rpartition("/")[2]
            found = "any JSON" if name == ANYTHING else f"[{name}](#{name.lower()})"
        case {"anyOf": list(kinds)}:
            found = " or ".join(_type(kind) for kind in kinds)
        case {"enum": list(values)}:
            found = ", ".join(f"`{value}`" for value in values)
        case {"const": value}:
            found = f"`{value}`"
        case {"type": "array"}:
            found = f"list of {_type(facts['items'])}"
        case {"type": "object", "additionalProperties": dict(inner)}:
            found = f"object of {_type(inner)}"
        case _:
            found = str(facts["type"])
    return found
