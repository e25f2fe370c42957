"""Graders on the wire: what gives a sample of a model its reward."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Name = Annotated[str, Field(min_length=1, max_length=256)]
Template = Annotated[
    str,
    Field(
        max_length=10_000,
        description="Text, with `{{item.x}}` and `{{sample.output_text}}` filled in.",
    ),
]
# Computed from the texts' characters and words.
WordMetric = Literal[
    "fuzzy_match",
    "bleu",
    "gleu",
    "meteor",
    "rouge_1",
    "rouge_2",
    "rouge_3",
    "rouge_4",
    "rouge_5",
    "rouge_l",
]
Metric = Literal["cosine", WordMetric]


class _Grader(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    input: Template
    reference: Template


class StringCheckGrader(_Grader):
    """Gives 1 or 0; `like` and `ilike` look for the reference within the input."""

    type: Literal["string_check"]
    operation: Literal["eq", "ne", "like", "ilike"]


class TextSimilarityGrader(_Grader):
    """Gives how alike input and reference are, from 0 to 1."""

    type: Literal["text_similarity"]
    evaluation_metric: Metric


Grader = StringCheckGrader | TextSimilarityGrader


class GraderValidate(BaseModel):
    """A grader to check."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    grader: dict[str, JsonValue] = Field(
        description="`type` is `string_check` or `text_similarity`.",
        json_schema_extra={
            "oneOf": [
                {"$ref": f"#/components/schemas/{grader.__name__}"}
                for grader in (StringCheckGrader, TextSimilarityGrader)
            ]
        },
    )


class GraderRun(GraderValidate):
    """A grader, and what it shall grade."""

    model_sample: str = Field(max_length=100_000, description="What a model has answered.")
    item: dict[str, JsonValue] | None = Field(default=None, description="A row, for `{{item.x}}`.")


class ValidatedGraderObject(BaseModel):
    """The grader, as it was understood."""

    grader: dict[str, Any]


class GraderErrorsObject(BaseModel):
    """What went wrong while grading."""

    formula_parse_error: bool = False
    invalid_variable_error: bool = False
    model_grader_parse_error: bool = False
    model_grader_refusal_error: bool = False
    model_grader_server_error: bool = False
    model_grader_server_error_details: str | None = None
    other_error: bool = False
    python_grader_runtime_error: bool = False
    python_grader_runtime_error_details: str | None = None
    python_grader_server_error: bool = False
    python_grader_server_error_type: str | None = None
    sample_parse_error: bool = False
    truncated_observation_error: bool = False
    unresponsive_reward_error: bool = False


class GraderMetadataObject(BaseModel):
    """How the reward came about."""

    name: str
    type: str
    errors: GraderErrorsObject
    execution_time: float = Field(description="Seconds.")
    scores: dict[str, Any] = Field(default_factory=dict)
    token_usage: int | None = None
    sampled_model_name: str | None = None


class GraderRunObject(BaseModel):
    """A reward; 0 if `metadata.errors` names an error."""

    reward: float
    sub_rewards: dict[str, Any] = Field(default_factory=dict)
    metadata: GraderMetadataObject
    model_grader_token_usage_per_model: dict[str, Any] = Field(default_factory=dict)
