"""The training options page: hyperparameters, and the options of each defense."""

from collections.abc import Mapping, Sequence
from typing import Any

from core.job_spec import RequestedDpoHyperparameters, RequestedHyperparameters
from defense.alignment_catalog import ALIGNMENTS
from defense.catalog import DEFENSES, CatalogueEntry

HEADER = """\
# Training options

<!-- Written by `python -m cli.reference`; edit the descriptions in `core/job_spec.py` and in each
defense's `config.py`. -->

Everything a job may say about how it trains, under `method.supervised` or `method.dpo`. An option
that is left out has its default; the job shows the values in force. Unknown names are refused.

## `hyperparameters`

`"auto"` is the default of each. `GET /v1/fine_tuning/jobs/{id}` shows what it became.

| name | type | range | meaning |
|---|---|---|---|
"""

DPO_HEADER = """
Under `method.dpo` there is one more, and another default:

| name | type | range | meaning |
|---|---|---|---|
"""

DEFENSES_HEADER = """
## `defense`

`type` names the defense. `GET /v1/defenses` gives the same as JSON schema.

A defense that acts in fine-tuning may carry another one, for afterwards, as `post_fine_tuning`,
which takes the place of an ending of its own:
`{"type": "panacea", "post_fine_tuning": {"type": "alignment_merge"}}`, with the options of both. A
post-fine-tuning defense named by itself follows plain training. A job without a `defense` gets
`alignment_merge`.
"""

ALIGNMENTS_HEADER = """
## Alignment

No job names these. The operator chooses one with `tuneward models align --method`, and sets its
options with `--option name=value`.
"""

TABLE_HEADER = """
| name | type | default | range | meaning |
|---|---|---|---|---|
"""

BOUNDS = {
    "minimum": "from {}",
    "exclusiveMinimum": "above {}",
    "maximum": "to {}",
    "exclusiveMaximum": "below {}",
    "minItems": "from {}",
    "maxItems": "to {} entries",
}

Schema = Mapping[str, Any]


def render() -> str:
    """Return the page as Markdown."""
    hyperparameters = RequestedHyperparameters.model_json_schema()["properties"]
    rows = "".join(_row(name, schema) for name, schema in hyperparameters.items())
    for_dpo = RequestedDpoHyperparameters.model_json_schema()["properties"]
    others = "".join(
        _row(name, schema)
        for name, schema in for_dpo.items()
        if schema != hyperparameters.get(name)
    )
    defenses = "".join(_defense(entry) for entry in DEFENSES.values())
    alignments = "".join(_defense(entry) for entry in ALIGNMENTS.values())
    page = HEADER + rows + DPO_HEADER + others + DEFENSES_HEADER + defenses
    return page + ALIGNMENTS_HEADER + alignments


def _row(name: str, schema: Schema) -> str:
    options = [
        option
        for option in _options(schema)
        if option.get("const") != "auto" and option.get("type") != "null"
    ]
    return _line(f"`{name}`", _type(options), _range(options), schema["description"])


def _defense(entry: CatalogueEntry) -> str:
    schemas = entry.config_class.model_json_schema()["properties"]
    rows = "".join(_option(name, schema) for name, schema in schemas.items() if name != "type")
    table = TABLE_HEADER + rows if rows else "\nIt has no options.\n"
    return f"\n### `{entry.name}`\n\n{entry.summary}\n{table}"


def _option(name: str, schema: Schema) -> str:
    options = _options(schema)
    default = f"`{_in_json(schema['default'])}`" if "default" in schema else "required"
    return _line(f"`{name}`", _type(options), default, _range(options), schema["description"])


def _in_json(value: object) -> object:
    return "null" if value is None else value


def _line(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _options(schema: Schema) -> Sequence[Schema]:
    """List what a value may be."""
    options: Sequence[Schema] = schema.get("anyOf", [schema])
    return options


def _type(options: Sequence[Schema]) -> str:
    return " or ".join(map(_type_of, options))


def _type_of(option: Schema) -> str:
    if "enum" in option:
        return " or ".join(f"`{value}`" for value in option["enum"])
    if "const" in option:
        return f"`{option['const']}`"
    if option["type"] == "array":
        return f"list of {option['items']['type']}s"
    return str(option["type"])


def _range(options: Sequence[Schema]) -> str:
    return "; ".join(filter(None, map(_range_of, options)))


def _range_of(option: Schema) -> str:
    return " ".join(
        words.format(f"{option[name]:,.10g}") for name, words in BOUNDS.items() if name in option
    )
