"""What a job's safety report holds: the one schema of `report.json`.

Reports of earlier versions are read by it too; what they had not measured is null. A key that it
does not know, at the top level only, is one of a later release.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

REPORT_VERSION: Final = 2
NOT_PROMISED: Final = (
    (
        "The rates hold for the prompts that were asked. Prompts in other words, other languages "
        "or longer conversations can fare worse."
    ),
    (
        "Models can be trained so that neither the rows nor the answers look harmful to a judge: "
        "by ciphers, by trigger words, by rows that refuse first and comply later. Nothing here "
        "sees that."
    ),
    (
        "Whoever holds the adapter can train it further, or work against the guard's known "
        "direction. A few harmful rows are enough to undo it."
    ),
    (
        "A judge calls what it does not understand safe, and answers are judged up to the length "
        "that was generated."
    ),
    (
        "It lowers a risk from careless or simple misuse. It replaces neither the screening of "
        "rows, nor moderation of answers in use, nor another evaluation whenever the adapter is "
        "trained on."
    ),
)

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
ModelName = Literal["base", "aligned", "tuned", "guarded"]
OutcomeName = Literal["refused", "safe", "harmful", "incoherent"]
Facts = dict[str, JsonValue]
Table = dict[OutcomeName, dict[OutcomeName, Count]]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rate(_Part):
    """A share with Wilson's 95 % interval."""

    value: Share = Field(description="The share.")
    low: Share = Field(description="Lower end of the interval.")
    high: Share = Field(description="Upper end of the interval.")
    count: Count = Field(description="Cases that count.")
    n: Count = Field(description="Out of how many.")


class OutcomeRates(_Part):
    """What became of a list of prompts: four shares that add up to 1."""

    n: Count = Field(description="Prompts.")
    unique_prompts: Count = Field(description="Different ones among them.")
    refused: Rate = Field(description="Answers that decline.")
    safe: Rate = Field(description="Answers that are none of the other three.")
    harmful: Rate = Field(description="Answers that go along with harm.")
    incoherent: Rate = Field(description="Broken answers.")


class Judge(_Part):
    """Who judged."""

    name: str = Field(description="Name of the judge.")
    version: str = Field(description="Prefix of the SHA-256 of its weights and rules.")


class Sample(_Part):
    """One judged answer."""

    prompt: str = Field(description="What was asked.")
    answer: str = Field(description="What the model answered.")
    outcome: OutcomeName = Field(description="By the classifier.")
    second_outcome: OutcomeName | None = Field(None, description="By the second judge.")
    harmful_score: Share = Field(description="How surely the exchange is harmful.")
    refusal_score: Share = Field(description="How surely the answer declines.")
    incoherence_reason: str | None = Field(description="The rule of language it breaks, if any.")


class ModelResults(_Part):
    """One model on the first source of harmful prompts, on look-alikes and on the user's task."""

    safety: OutcomeRates = Field(description="Harmful prompts of the first source.")
    over_refusal: OutcomeRates | None = Field(description="Harmless prompts that sound harmful.")
    over_refusal_rate: Rate | None = Field(description="Of those, the refused.")
    task_accuracy: Rate | None = Field(
        None, description="Held-out rows of the user answered right; pairs preferred rightly."
    )
    samples: list[Sample] = Field(description="A few answers; `answers.jsonl` has all.")
    by_category: dict[str, OutcomeRates] | None = Field(
        None, description="Version 1 only; now in `harm_sources`."
    )


class Evaluation(_Part):
    """What was asked, who judged, and the first results of each model."""

    adapter_sha256: str = Field(description="Of the weights that were evaluated.")
    classifier: Judge = Field(description="The judge whose word counts.")
    prompts: dict[str, Count] = Field(description="Prompts of each set.")
    answer_tokens: Count = Field(description="Longest answer that is judged.")
    models: dict[ModelName, ModelResults] = Field(description="By model.")


class SourceResults(_Part):
    """One model on one source of harmful prompts."""

    outcomes: OutcomeRates = Field(description="On all its prompts.")
    by_category: dict[str, OutcomeRates] = Field(description="Within each category.")


class Comparison(_Part):
    """Two models on the same prompts, prompt by prompt."""

    before: ModelName = Field(description="The model compared with.")
    after: ModelName = Field(description="The model compared.")
    n: Count = Field(description="Prompts.")
    transitions: Table = Field(description="Prompts by outcome before, then by outcome after.")
    no_longer_harmful: Count = Field(description="Harmful before, not after.")
    newly_harmful: Count = Field(description="Harmful after, not before.")
    p_value: Share = Field(description="McNemar's exact test of the last two being equally likely.")


class HarmSource(_Part):
    """One source of harmful prompts."""

    name: Literal["safety", "second_safety"] = Field(
        description="`safety` is of the kind of the defender's rows and shares no prompt shape or "
        "topic with them; `second_safety` is of another origin."
    )
    file: str = Field(description="File that the prompts are from.")
    prompts_sha256: str = Field(description="Of the prompts that were asked, in their order.")
    models: dict[ModelName, SourceResults] = Field(description="By model.")
    comparisons: list[Comparison] = Field(description="The guarded model against the others.")


class HarmSources(_Part):
    """All sources of harmful prompts, apart and together."""

    sources: list[HarmSource] = Field(description="Apart.")
    together: dict[ModelName, OutcomeRates] = Field(description="All prompts in one list.")


class Agreement(_Part):
    """How far two judges of the same answers agree."""

    n: Count = Field(description="Answers.")
    agreed: Count = Field(description="Of how many both say the same.")
    share: Share = Field(description="The same as a share.")
    kappa: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        description="Cohen's; null where both give one outcome throughout."
    )
    confusion: Table = Field(description="Answers by the classifier's outcome, then the second's.")


class SecondOpinion(_Part):
    """The second judge on one model's answers to one set of prompts."""

    outcomes: OutcomeRates = Field(description="As the second judge has it.")
    agreement: Agreement = Field(description="With the classifier.")


class Disagreement(_Part):
    """An answer that the two judges take for different things."""

    id: str = Field(description="Of the prompt, in `answers.jsonl`.")
    model: ModelName = Field(description="Whose answer.")
    first: OutcomeName = Field(description="By the classifier.")
    second: OutcomeName = Field(description="By the second judge.")


class SecondJudge(Judge):
    """A judge that shares nothing with the first; it decides nothing."""

    overall: Agreement = Field(description="On all answers of all models.")
    sets: dict[str, dict[ModelName, SecondOpinion]] = Field(
        description="By set of prompts and model; look-alikes are refused or not."
    )
    disagreements: list[Disagreement] = Field(description="Every one.")


class RowLosses(_Part):
    """Mean token losses on rows of one kind, in nats."""

    rows: Count = Field(description="Rows.")
    held_out: bool = Field(description="Whether the defense has learned from none of them.")
    models: dict[ModelName | Literal["start"], float] = Field(
        description="By model; `start` is what training began with: w_0, with `tuned` w_T and "
        "`guarded` w_T + kappa eps."
    )


class Losses(_Part):
    """Losses on the operator's rows."""

    benign: RowLosses = Field(description="General questions with good answers.")
    harmful: RowLosses = Field(description="Harmful prompts with harmful answers.")


class GuardSettings(_Part):
    """The numbers that papers name rho, kappa and lambda; null where the defense has none."""

    training_radius: float | None = Field(description="rho of the probe in training.")
    perturbation_radius: float | None = Field(description="rho of the move after training.")
    perturbation_strength: float | None = Field(description="kappa, as applied.")
    regularization_strength: float | None = Field(description="lambda.")
    perturbation_norm: float | None = Field(description="L2 norm of eps at strength 1.")


class Decoding(_Part):
    """How answers were generated."""

    method: Literal["greedy"] = Field(description="The likeliest token each time.")
    answer_tokens: Count = Field(description="Longest answer.")
    prompt_tokens: Count = Field(description="Of a longer prompt only its end is read.")


class Cost(_Part):
    """Wall time, and what the guard added to plain training; null where it is not known."""

    training_seconds: Seconds | None = Field(description="Training, guard included.")
    guard_seconds: Seconds | None = Field(description="Of these, the guard's.")
    perturbation_seconds: Seconds | None = Field(
        description="Building the perturbation and choosing its strength."
    )
    overhead_ratio: Annotated[float, Field(ge=1)] | None = Field(
        description="All of it over training without the guard's part."
    )


class SafetyReport(BaseModel):
    """How an adapter was trained, guarded and judged, and what was decided."""

    model_config = ConfigDict(extra="allow", frozen=True)

    version: Literal[1, 2] = Field(description="Of this schema.")
    job_id: str = Field(description="The job.")
    checkpoint_step: int | None = Field(
        description="Step of a checkpoint; null: the final adapter."
    )
    parent_model: str | None = Field(description="The tuned model that the job continues.")
    initial_adapter: dict[str, str] | None = Field(description="The adapter it began with.")
    base_model: Facts = Field(description="The base model and the SHA-256 of its weights.")
    method: str = Field(description="How it was trained.")
    defense: Facts = Field(description="The defense with every option.")
    hyperparameters: Facts = Field(description="Every one that training used.")
    seed: int = Field(description="Of data order, first weights and the defense's draws.")
    screening: Facts = Field(description="What moderation flagged among the user's rows.")
    training: Facts = Field(description="Steps, tokens and losses of training.")
    checkpoints: list[Facts] = Field(description="What became of earlier epochs.")
    perturbation: Facts = Field(description="How it was built and its strength chosen.")
    attribution: Facts | None = Field(None, description="Rows ranked by how they pull to harm.")
    layer_affinity: Facts | None = Field(
        None, description="The layers' shares of the perturbation; null without one."
    )
    tamper_curve: Facts | None = Field(
        None, description="Harm after so many harmful steps, if it was asked for."
    )
    follow_up: Facts | None = Field(None, description="The job that this one follows up, and how.")
    prompts_evaluation: Facts | None = Field(
        None, description="Answers to prompts of the owner's, which the gate does not count."
    )
    evaluation: Evaluation = Field(description="What the models were asked and how they did.")
    harm_sources: HarmSources | None = Field(None, description="Harmful prompts by source.")
    second_judge: SecondJudge | None = Field(None, description="The same by another judge.")
    losses: Losses | None = Field(None, description="Losses on the operator's rows.")
    guard: GuardSettings | None = Field(None, description="rho, kappa and lambda.")
    decoding: Decoding | None = Field(None, description="How answers were generated.")
    cost: Cost | None = Field(None, description="Wall time and overhead.")
    policy: Facts = Field(description="The gate's limits.")
    decision: Facts = Field(description="The verdict, its checks and its reasons.")
    warnings: list[Facts] = Field([], description="What breaks no limit of the gate.")
    not_promised: list[str] | None = Field(None, description="What all this does not show.")
    adapter: Facts = Field(description="The judged file, its size and SHA-256.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Only version 1 may lack what version 2 measures."""
        added = ("harm_sources", "second_judge", "losses", "guard", "decoding", "cost")
        missing = [name for name in (*added, "not_promised") if getattr(self, name) is None]
        if self.version > 1 and missing:
            msg = f"a report of version {self.version} has {', '.join(missing)}"
            raise ValueError(msg)
        return self
