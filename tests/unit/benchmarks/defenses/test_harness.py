"""Plans carried out on a tiny model: what is finished is never done again."""

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.defenses.harness import Harness, Plan
from benchmarks.defenses.laboratory import Laboratory
from benchmarks.defenses.methods import ALIGNED, Method, all_methods
from benchmarks.defenses.public_rows import PublicRows
from benchmarks.defenses.store import Cell, ResultStore
from defense.job_defense import parse_defense
from tests.tiny_laboratory import CAPS, FakeClassifier

CELL = Cell("sst2", 0, 0.1)


def _plan(*names: str, cell: Cell = CELL) -> Plan:
    methods = all_methods()
    return [(cell, [methods[name] for name in names])]


def _run(laboratory: Laboratory, public: PublicRows, store: ResultStore, plan: Plan) -> Harness:
    harness = Harness(laboratory, public, store, tell=lambda _: None)
    harness.run(plan)
    return harness


def _result(store: ResultStore, method: str, cell: Cell = CELL) -> dict[str, Any]:
    found = {(each["task"], each["method"], each["ratio"]): each for each in store.all_results()}
    return found[cell.task, method, None if method == ALIGNED else cell.ratio]


def test_a_second_run_trains_and_measures_nothing(
    laboratory: Laboratory, public: PublicRows, store: ResultStore
) -> None:
    plan = _plan("none", "panacea")

    first = _run(laboratory, public, store, plan)
    before = store.all_results()
    second = _run(laboratory, public, store, plan)

    assert (first.trainings, first.measured) == (2, 3)
    assert (second.trainings, second.measured) == (0, 0)
    assert store.all_results() == before


def test_what_was_lost_is_measured_again_without_training(
    laboratory: Laboratory, public: PublicRows, store: ResultStore
) -> None:
    plan = _plan("none")
    _run(laboratory, public, store, plan)
    before = _result(store, "none")
    store.path(CELL, "none").unlink()

    again = _run(laboratory, public, store, plan)

    assert (again.trainings, again.measured) == (0, 1)
    after = _result(store, "none")
    assert after["key"] == before["key"]
    for part in ("scores", "losses", "training"):
        assert after[part] == before[part]


def test_methods_that_end_plain_training_share_it(
    laboratory: Laboratory, public: PublicRows, store: ResultStore
) -> None:
    done = _run(laboratory, public, store, _plan("none", "refusal_restoration", "panacea_endpoint"))

    assert (done.trainings, done.measured) == (1, 4)
    trainings = [_result(store, name)["training"]["key"] for name in ("none", "panacea_endpoint")]
    assert trainings[0] == trainings[1]


def test_another_option_of_the_method_is_another_result_of_the_same_training(
    laboratory: Laboratory, public: PublicRows, store: ResultStore
) -> None:
    def method(radius: float) -> Method:
        options = {"type": "panacea_endpoint", "perturbation_radius": radius}
        return Method("endpoint", parse_defense(options))

    _run(laboratory, public, store, [(CELL, [method(0.5)])])
    key = _result(store, "endpoint")["key"]

    again = _run(laboratory, public, store, [(CELL, [method(1.0)])])

    assert (again.trainings, again.measured) == (0, 1)
    assert _result(store, "endpoint")["key"] != key


@pytest.mark.parametrize(
    ("change", "trainings", "measured"),
    [
        ({"max_steps": 2}, 1, 1),
        ({"user_rows": 16}, 1, 1),
        ({"harmful_prompts": 2}, 0, 2),
        ({"strength_prompts": 1}, 0, 1),
        ({"task_questions": 2}, 0, 0),
    ],
)
def test_another_size_measures_again_what_depends_on_it(
    laboratory: Laboratory,
    public: PublicRows,
    store: ResultStore,
    change: dict[str, int],
    trainings: int,
    measured: int,
) -> None:
    plan = _plan("refusal_restoration")
    _run(laboratory, public, store, plan)

    other = replace(laboratory, caps=replace(CAPS, **change))
    again = _run(other, public, store, plan)

    assert (again.trainings, again.measured) == (trainings, measured)


def test_another_judge_measures_everything_again(
    laboratory: Laboratory, public: PublicRows, store: ResultStore
) -> None:
    class OtherClassifier(FakeClassifier):
        version = "2"

    _run(laboratory, public, store, _plan("none"))

    other = replace(laboratory, classifier=OtherClassifier())
    again = _run(other, public, store, _plan("none"))

    assert again.measured == 2


def test_a_method_that_fails_is_named_and_the_others_go_on(
    laboratory: Laboratory, public: PublicRows, store: ResultStore
) -> None:
    nothing = replace(laboratory, defender=replace(laboratory.defender, harmful=[]))

    done = _run(nothing, public, store, _plan("panacea_endpoint", "none"))

    assert [failure.split(":")[0] for failure in done.failures] == [
        "seed-0/sst2/ratio-0.1/panacea_endpoint"
    ]
    assert _result(store, "none")["method"] == "none"


def test_a_result_says_what_was_trained_moved_and_asked(
    laboratory: Laboratory, public: PublicRows, store: ResultStore
) -> None:
    _run(laboratory, public, store, _plan("none", "refusal_restoration"))

    plain, restored = (_result(store, name) for name in ("none", "refusal_restoration"))
    assert plain["training"]["planted_rows"] == plain["training"]["flagged_rows"] == 2
    assert [step for step, _ in plain["training"]["harmful_loss"]] == [0, 1, 2, 3]
    assert plain["training"]["harmful_loss"][0][1] == plain["losses"]["initial"]["harmful"]
    assert plain["losses"]["trained"] == plain["losses"]["guarded"]
    assert plain["losses"]["trained"] != plain["losses"]["initial"]
    assert plain["scores"]["harm"]["xstest"]["outcomes"] == "hhh"
    assert plain["scores"]["harm"]["shipped"]["outcomes"] == "ss"
    assert plain["scores"]["task"]["accuracy"]["n"] == 2
    assert restored["ending"]["norm"] > 0
    assert restored["ending"]["points"][0]["strength"] == 0
    assert restored["ending"]["run"] == restored["training"]["run"]


def test_the_untrained_model_is_measured_once_for_each_task(
    laboratory: Laboratory, public: PublicRows, store: ResultStore
) -> None:
    plan = [*_plan("none"), *_plan("none", cell=Cell("sst2", 1, 0.0))]

    done = _run(laboratory, public, store, plan)

    assert (done.trainings, done.measured) == (2, 3)
    aligned = _result(store, ALIGNED)
    initial = _result(store, "none")["losses"]["initial"]
    # Without an aligned adapter the first weights are drawn by the seed, and change no output.
    assert aligned["losses"]["initial"] == initial


def test_results_hold_no_text_of_any_row(
    laboratory: Laboratory, public: PublicRows, store: ResultStore
) -> None:
    _run(laboratory, public, store, _plan("none", "panacea"))

    written = "".join(path.read_text() for path in store.folder.rglob("*.json"))

    for text in ("Lovelace", "film", "cheat at", "rob bank", "Sure"):
        assert text not in written
