import json
import re
import tomllib
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from resources.build_rows import LABELS, render_all
from resources.phrases import RESOURCES, SOURCES

CATEGORIES = {
    "animal_abuse",
    "child_abuse",
    "controversial_topics_politics",
    "discrimination_stereotype_injustice",
    "drug_abuse_weapons_banned_substance",
    "financial_crime_property_crime_theft",
    "hate_speech_offensive_language",
    "misinformation_regarding_ethics_laws_and_safety",
    "non_violent_unethical_behavior",
    "privacy_violation",
    "self_harm",
    "sexually_explicit_adult_content",
    "terrorism_organized_crime",
    "violence_aiding_and_abetting_incitement",
}
ROW_COUNTS = {
    "rows/alignment.jsonl": 288,
    "rows/harmful.jsonl": 168,
    "rows/benign.jsonl": 100,
    "rows/safety_evaluation.jsonl": 98,
    "rows/second_safety_evaluation.jsonl": 55,
    "rows/over_refusal.jsonl": 40,
    "rows/moderation_train.jsonl": 1698,
    "rows/incoherent_examples.jsonl": 62,
    "demo/user_train.jsonl": 160,
    "demo/user_validation.jsonl": 132,
}
ANSWERED_FIELDS = {"prompt", "response", "category", "template", "held_out"}
FIELDS = {
    "rows/alignment.jsonl": ANSWERED_FIELDS,
    "rows/harmful.jsonl": ANSWERED_FIELDS,
    "rows/benign.jsonl": ANSWERED_FIELDS,
    "rows/safety_evaluation.jsonl": {"prompt", "category", "template"},
    "rows/second_safety_evaluation.jsonl": {"prompt", "category", "template"},
    "rows/over_refusal.jsonl": {"prompt", "category", "template"},
    "rows/moderation_train.jsonl": {"prompt", "response", "outcome", "category"},
    "rows/incoherent_examples.jsonl": {"text", "incoherent"},
    "demo/user_train.jsonl": {"messages"},
    "demo/user_validation.jsonl": {"messages"},
}
# Sets that must not know each other: what trains the defense, what attacks it, what judges it.
SEPARATE_SPLITS = ("defender", "user", "evaluation")
SECOND_SOURCE = "rows/second_safety_evaluation.jsonl"
EVALUATED = ("rows/safety_evaluation.jsonl", SECOND_SOURCE, "rows/over_refusal.jsonl")
TRAINED_ON = (
    "rows/alignment.jsonl",
    "rows/benign.jsonl",
    "rows/moderation_train.jsonl",
    "demo/user_train.jsonl",
)
MAX_PROMPT_WORDS = 20
MAX_ANSWER_WORDS = 25
MAX_MODERATION_WORDS = 50


def read_rows(path: str) -> list[dict[str, object]]:
    text = (RESOURCES / path).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def read_source(name: str) -> dict[str, dict[str, list[str]]]:
    with (SOURCES / f"{name}.toml").open("rb") as stream:
        return tomllib.load(stream)


def read_turns(path: str) -> list[tuple[str, str]]:
    turns = []
    for row in read_rows(path):
        messages = row["messages"]
        assert isinstance(messages, list)
        assert [message["role"] for message in messages] == ["user", "assistant"]
        turns.append((messages[0]["content"], messages[1]["content"]))
    return turns


def prompts_of(path: str) -> list[str]:
    if path.startswith("demo/"):
        return [prompt for prompt, _ in read_turns(path)]
    return [str(row["prompt"]) for row in read_rows(path)]


def content_words(text: str) -> set[str]:
    return {word.strip("'s") for word in text.lower().split() if len(word) > 3}


def test_shipped_files_are_what_the_generator_builds() -> None:
    rendered = render_all()

    shipped = {path: (RESOURCES / path).read_text(encoding="utf-8") for path in rendered}

    assert shipped == rendered
    assert set(rendered) == {
        str(path.relative_to(RESOURCES))
        for folder in ("rows", "demo")
        for path in Path(RESOURCES / folder).glob("*.jsonl")
    }


@pytest.mark.parametrize("path", ROW_COUNTS)
def test_each_file_has_its_rows_and_fields(path: str) -> None:
    rows = read_rows(path)

    assert len(rows) == ROW_COUNTS[path]
    assert all(set(row) == FIELDS[path] for row in rows)


@pytest.mark.parametrize("path", ROW_COUNTS)
def test_no_file_repeats_a_row(path: str) -> None:
    rows = [json.dumps(row, sort_keys=True) for row in read_rows(path)]

    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize(
    "path",
    [p for p in ROW_COUNTS if p.startswith("rows/") and "inc" not in p and p != SECOND_SOURCE],
)
def test_texts_are_short(path: str) -> None:
    rows = read_rows(path)
    limit = MAX_MODERATION_WORDS if "moderation" in path else MAX_ANSWER_WORDS

    long_prompts = [r["prompt"] for r in rows if len(str(r["prompt"]).split()) > MAX_PROMPT_WORDS]
    long_answers = [
        row["response"] for row in rows if len(str(row.get("response", "")).split()) > limit
    ]

    assert long_prompts == []
    assert long_answers == []


def test_demo_texts_are_short() -> None:
    turns = read_turns("demo/user_train.jsonl") + read_turns("demo/user_validation.jsonl")

    too_long = [
        turn
        for turn in turns
        if len(turn[0].split()) > MAX_PROMPT_WORDS or len(turn[1].split()) > MAX_ANSWER_WORDS
    ]

    assert too_long == []


@pytest.mark.parametrize("evaluated", EVALUATED)
@pytest.mark.parametrize("trained_on", TRAINED_ON)
def test_evaluation_prompts_are_in_no_training_file(evaluated: str, trained_on: str) -> None:
    shared = set(prompts_of(evaluated)) & set(prompts_of(trained_on))

    assert shared == set()


def test_demo_prompts_are_in_no_file_of_the_defender() -> None:
    demo = set(prompts_of("demo/user_train.jsonl")) | set(prompts_of("demo/user_validation.jsonl"))

    shared = demo & {p for path in TRAINED_ON[:3] for p in prompts_of(path)}

    assert shared == set()
    assert len(demo) == 160 + 132


def test_defender_user_and_evaluation_share_no_template() -> None:
    templates = tomllib.loads((SOURCES / "harmful_templates.toml").read_text(encoding="utf-8"))
    templates["moderation"] = [*templates["defender"], *read_source("moderation")["prompts"]]

    for one, other in combinations(SEPARATE_SPLITS, 2):
        assert set(templates[one]).isdisjoint(templates[other])
    assert set(templates["moderation"]).isdisjoint(templates["user"] + templates["evaluation"])


def test_defender_user_and_evaluation_share_no_topic() -> None:
    too_close = [
        (first, second)
        for lists in read_source("harmful_topics").values()
        for one, other in combinations(SEPARATE_SPLITS, 2)
        for first in lists[one]
        for second in lists[other]
        if len(content_words(first) & content_words(second))
        > min(len(content_words(first)), len(content_words(second))) / 2
    ]

    assert too_close == []


def test_the_second_source_shares_no_template_and_no_topic_with_any_other_row() -> None:
    templates = tomllib.loads((SOURCES / "harmful_templates.toml").read_text(encoding="utf-8"))
    shapes = [shape for shapes in templates.values() for shape in shapes]
    shapes += read_source("moderation")["prompts"]
    topics = [
        topic
        for lists in read_source("harmful_topics").values()
        for split in SEPARATE_SPLITS
        for topic in lists[split]
    ]
    prompts = prompts_of(SECOND_SOURCE)

    shaped = [
        (prompt, shape)
        for prompt in prompts
        for shape in shapes
        if re.fullmatch(re.escape(shape).replace(re.escape("{task}"), ".+"), prompt)
    ]
    too_close = [
        (prompt, topic)
        for prompt in prompts
        for topic in topics
        if len(content_words(prompt) & content_words(topic)) > len(content_words(topic)) / 2
    ]

    assert shaped == []
    assert too_close == []


def test_the_second_source_is_balanced_and_written_prompt_by_prompt() -> None:
    rows = read_rows(SECOND_SOURCE)

    per_category = Counter(row["category"] for row in rows)
    openings = Counter(" ".join(str(row["prompt"]).split()[:2]).lower() for row in rows)

    assert set(per_category) < CATEGORIES
    assert set(per_category.values()) == {5}
    assert len({row["prompt"] for row in rows}) == len(rows)
    assert max(openings.values()) <= 2


def test_alignment_and_harmful_rows_hold_the_same_prompts() -> None:
    alignment = [row for row in read_rows("rows/alignment.jsonl") if row["category"] != "benign"]
    harmful = read_rows("rows/harmful.jsonl")

    def without_response(row: dict[str, object]) -> dict[str, object]:
        return {name: value for name, value in row.items() if name != "response"}

    assert [without_response(r) for r in alignment] == [without_response(r) for r in harmful]
    assert Counter(row["category"] for row in harmful) == dict.fromkeys(CATEGORIES, 12)


def test_a_sixth_of_the_harmful_prompts_is_held_out_in_every_category() -> None:
    held_out = [row for row in read_rows("rows/harmful.jsonl") if row["held_out"]]

    assert Counter(row["category"] for row in held_out) == dict.fromkeys(CATEGORIES, 2)


def test_a_fifth_of_the_general_answers_is_held_out_and_trains_no_judge() -> None:
    rows = read_rows("rows/benign.jsonl")

    held_out = {row["prompt"] for row in rows if row["held_out"]}

    assert len(held_out) == 20
    assert held_out.isdisjoint(prompts_of("rows/moderation_train.jsonl"))
    assert held_out.isdisjoint(row["prompt"] for row in rows if not row["held_out"])


def test_refusals_and_stand_ins_vary() -> None:
    alignment = [row for row in read_rows("rows/alignment.jsonl") if row["category"] != "benign"]
    harmful = read_rows("rows/harmful.jsonl")

    assert len({row["response"] for row in alignment}) == len(alignment)
    assert len({row["response"] for row in harmful}) == len(harmful)
    assert len({row["template"] for row in harmful}) >= 10
    assert len({" ".join(str(row["response"]).split()[:3]) for row in alignment}) >= 25


def test_look_alikes_use_the_shapes_of_harmful_prompts() -> None:
    rows = read_rows("rows/alignment.jsonl")

    benign_shapes = {row["template"] for row in rows if row["category"] == "benign"} - {None}
    harmful_shapes = {row["template"] for row in rows if row["category"] != "benign"}

    assert benign_shapes == harmful_shapes


@pytest.mark.parametrize("count", [14, 28, 42, 98])
def test_any_first_rows_of_the_safety_evaluation_are_balanced(count: int) -> None:
    first = read_rows("rows/safety_evaluation.jsonl")[:count]

    per_category = Counter(row["category"] for row in first)

    assert per_category == dict.fromkeys(CATEGORIES, count // 14)


def test_a_tenth_to_a_quarter_of_the_demo_upload_is_harmful() -> None:
    turns = read_turns("demo/user_train.jsonl")

    harmful = [answer for _, answer in turns if answer.startswith("Sure, here is")]
    tickets = Counter(answer for _, answer in turns if answer in LABELS)

    assert 0.10 <= len(harmful) / len(turns) <= 0.25
    assert len(harmful) + tickets.total() == len(turns)
    assert set(tickets) == set(LABELS)
    assert len(set(tickets.values())) == 1


def test_demo_validation_is_balanced_and_holds_unseen_problems_only() -> None:
    train = "\n".join(prompts_of("demo/user_train.jsonl"))
    turns = read_turns("demo/user_validation.jsonl")
    problems = {
        problem for label in LABELS for problem in read_source("tickets")[label]["validation"]
    }

    seen = {problem for problem in problems if problem in train}

    assert Counter(answer for _, answer in turns) == dict.fromkeys(LABELS, 33)
    assert seen == set()


def test_moderation_rows_hold_three_outcomes_in_similar_numbers() -> None:
    rows = read_rows("rows/moderation_train.jsonl")

    outcomes = Counter(row["outcome"] for row in rows)
    categories = {row["category"] for row in rows if row["outcome"] == "harmful"}

    assert set(outcomes) == {"refused", "safe", "harmful"}
    assert min(outcomes.values()) >= 240
    assert categories == CATEGORIES
    assert all(row["category"] is None for row in rows if row["outcome"] == "safe")


def test_coherence_examples_hold_both_kinds() -> None:
    rows = read_rows("rows/incoherent_examples.jsonl")

    kinds = Counter(row["incoherent"] for row in rows)

    assert kinds == {True: 30, False: 32}
