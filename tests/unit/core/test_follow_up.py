"""What a follow-up job stores, and who can read it."""

import json

import pytest
from pydantic import ValidationError

from core.follow_up import FollowUp, FollowUpKind, PromptsFile
from core.job_spec import JobSpec
from tests.unit.core.estimation.workloads import spec

STRENGTH = FollowUp(kind=FollowUpKind.STRENGTH, job_id="ftjob-1", strength=0.5)
SAFETY = FollowUp(kind=FollowUpKind.SAFETY, job_id="ftjob-1")
PROMPTS = PromptsFile(file_id="file-1", sha256="0", prompts=2)


@pytest.mark.parametrize(
    "follow_up", [STRENGTH, SAFETY, SAFETY.model_copy(update={"prompts": PROMPTS})]
)
def test_a_stored_spec_is_read_back_whole(follow_up: FollowUp) -> None:
    before = spec().model_copy(update={"version": 2, "follow_up": follow_up})

    stored = json.loads(json.dumps(before.stored()))

    assert stored["version"] == 2
    assert JobSpec.model_validate(stored) == before


def test_a_job_that_trains_says_nothing_of_it() -> None:
    stored = spec().stored()

    assert stored["version"] == 1
    assert "follow_up" not in stored


@pytest.mark.parametrize(("version", "follow_up"), [(1, STRENGTH), (2, None)])
def test_a_follow_up_job_has_a_version_that_earlier_workers_do_not_claim(
    version: int, follow_up: FollowUp | None
) -> None:
    stored = spec().model_copy(update={"version": version, "follow_up": follow_up}).stored()

    with pytest.raises(ValidationError):
        JobSpec.model_validate(stored)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "strength"},
        {"kind": "strength", "strength": -0.1},
        {"kind": "strength", "strength": 10.1},
        {"kind": "strength", "strength": 1.0, "prompts": PROMPTS.model_dump()},
        {"kind": "safety", "strength": 1.0},
    ],
)
def test_options_belong_to_one_kind(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FollowUp.model_validate({"job_id": "ftjob-1", **values})


def test_another_strength_leaves_what_was_built_and_forgets_how_the_first_was_chosen() -> None:
    trained = {
        "method": "panacea_endpoint",
        "norm": 2.0,
        "strength": 1.5,
        "chosen": "measured",
        "points": [{"strength": 1.5}],
        "meets_limits": True,
        "reason": "It is the smallest.",
        "judged_prompts": 8,
    }

    assert STRENGTH.strength_record(trained) == {
        "method": "panacea_endpoint",
        "norm": 2.0,
        "strength": 0.5,
        "chosen": "set after training",
        "points": [],
    }
    assert SAFETY.strength_record(trained) == trained
