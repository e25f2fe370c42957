"""`client.fine_tuning.alpha.graders`."""

from typing import Any

from cli.conformance.checks import expect, row
from cli.conformance.kit import Kit
from cli.conformance.shapes import GraderRunShape

_RUN, _VALIDATE = (f"fine_tuning.alpha.graders.{name}" for name in ("run", "validate"))
_CHECK: Any = {
    "type": "string_check",
    "name": "same",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "operation": "eq",
}
_LIKENESS: Any = {
    "type": "text_similarity",
    "name": "alike",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "evaluation_metric": "cosine",
}


@row(_RUN)
def answers_with_every_field_of_a_reward(kit: Kit) -> None:
    kit.client.fine_tuning.alpha.graders.run(
        grader=_CHECK, model_sample="pong", item={"answer": "pong"}
    )
    kit.expect_shape(GraderRunShape)


@row(_RUN)
def rewards_what_is_equal_and_nothing_else(kit: Kit) -> None:
    rewards = [
        kit.client.fine_tuning.alpha.graders.run(
            grader=_CHECK, model_sample=sample, item={"answer": "pong"}
        ).reward
        for sample in ("pong", "ping")
    ]
    expect(rewards == [1.0, 0.0], f"the rewards are {rewards}")


@row(_RUN)
def compares_meanings_from_0_to_1_by_cosine(kit: Kit) -> None:
    same, other = (
        kit.client.fine_tuning.alpha.graders.run(
            grader=_LIKENESS, model_sample=sample, item={"answer": "The cat sat."}
        ).reward
        for sample in ("The cat sat.", "Interest rates rose.")
    )
    expect(0 <= other < same, f"the rewards are {same} for the same text and {other} for another")
    expect(same > 0.99, f"a text and itself give {same}")  # noqa: PLR2004 - rounding aside


@row(_RUN)
def refuses_to_run_an_unknown_grader_with_400(kit: Kit) -> None:
    body = {"grader": {"type": "magic"}, "model_sample": "pong"}
    kit.send("POST", "/fine_tuning/alpha/graders/run", json=body)
    kit.expect_error(400)


@row(_VALIDATE)
def echoes_the_grader(kit: Kit) -> None:
    kit.client.fine_tuning.alpha.graders.validate(grader=_CHECK)
    found = kit.last.json().get("grader")
    expect(found == _CHECK, f"it gives {found}")


@row(_VALIDATE)
def refuses_an_unknown_operation_with_400(kit: Kit) -> None:
    body = {"grader": {**_CHECK, "operation": "guess"}}
    kit.send("POST", "/fine_tuning/alpha/graders/validate", json=body)
    kit.expect_error(400)
