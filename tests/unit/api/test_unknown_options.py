import pytest
from pydantic import ValidationError

from api.errors import from_problems
from api.fine_tuning.schemas import FineTuningJobCreate
from api.unknown_options import options_at, unknown_option


def refusal(body: dict[str, object]) -> str:
    with pytest.raises(ValidationError) as caught:
        FineTuningJobCreate.model_validate({"model": "m", "training_file": "file-1", **body})
    problems = [dict(problem) for problem in caught.value.errors()]
    return from_problems(problems, FineTuningJobCreate).message


def test_a_misspelled_option_comes_with_the_one_that_was_meant() -> None:
    assert unknown_option("n_epoch", ["batch_size", "n_epochs"]) == (
        "unknown option; did you mean n_epochs?"
    )


def test_an_option_like_no_other_comes_with_a_short_list_of_all() -> None:
    assert unknown_option("rho", ["type", "seed"]) == "unknown option; known are type, seed."
    assert unknown_option("rho", [f"option_{n}" for n in range(13)]) == "unknown option."
    assert unknown_option("rho", []) == "unknown option."


def test_known_options_are_those_of_the_object_at_the_path() -> None:
    assert options_at(FineTuningJobCreate, ["method"]) == ["type", "supervised", "dpo"]
    assert "n_epochs" in options_at(
        FineTuningJobCreate, ["method", "supervised", "hyperparameters"]
    )
    assert options_at(FineTuningJobCreate, ["method", "supervised", "defense"]) == []
    assert options_at(FineTuningJobCreate, ["metadata", "key", 0]) == []


def test_a_refused_body_says_so_at_every_depth() -> None:
    assert refusal({"sufix": "x"}) == "sufix: unknown option; did you mean suffix?"
    assert refusal({"hyperparameters": {"n_epoch": 1, "zzz": 1}}) == (
        "hyperparameters.n_epoch: unknown option; did you mean n_epochs? (1 more problem)"
    )
    assert refusal({"method": {"panacea": {}}}) == (
        "method.panacea: unknown option; known are type, supervised, dpo."
    )
