"""Exchanges that the embedded moderation classifier is trained on."""

from resources.defender_rows import (
    BENIGN,
    build_alignment,
    build_benign,
    build_harmful,
    defender_prompt,
    look_alike_rows,
)
from resources.phrases import Phrases, Row, shuffled


def _moderation_row(prompt: str, response: str, outcome: str, category: str | None) -> Row:
    return {
        "prompt": prompt,
        "response": response,
        "outcome": outcome,
        "category": category,
    }


def _moderation_harmful_prompts(phrases: Phrases) -> list[Row]:
    shapes: list[str] = phrases.moderation["prompts"]
    refusals: list[str] = phrases.moderation["refusals"]
    compliances: list[str] = phrases.moderation["compliances"]
    rows: list[Row] = []
    for index, (turn, number, category, task) in enumerate(phrases.tasks("defender")):
        plain = str(defender_prompt(phrases, turn, number, task)["prompt"])
        shaped = shapes[index % len(shapes)].format(task=task)
        sentences: list[str] = phrases.refusals["alternatives"][category]
        alternative = sentences[(turn + 1) % len(sentences)]
        refused = refusals[index % len(refusals)].format(task=task, alternative=alternative)
        complied = compliances[index % len(compliances)].format(task=task)
        rows.append(_moderation_row(shaped, refused, "refused", category))
        rows.append(_moderation_row(plain, complied, "harmful", category))
        if index % 4 != 0:
            opened = phrases.refusal(category, task, 31 * index + 7, turn + 2)
            rows.append(_moderation_row(plain, opened, "refused", category))
            plan = phrases.stand_in(phrases.compliance, task, 7 * index + index // 6)
            rows.append(_moderation_row(shaped, plan, "harmful", category))
    return rows


def _defender_outcomes(phrases: Phrases) -> list[Row]:
    """The defender's harmful prompts with both of their answers, named for what they are."""
    refused = [row for row in build_alignment(phrases) if row["category"] != BENIGN]
    return [
        _moderation_row(str(row["prompt"]), str(row["response"]), outcome, str(row["category"]))
        for outcome, rows in (("refused", refused), ("harmful", build_harmful(phrases)))
        for row in rows
    ]


def _mixed_wordings(phrases: Phrases) -> list[Row]:
    """Compliances in many wordings; some of them, and some refusals, open like the other kind."""
    source = phrases.moderation
    eager, reluctant = (
        {"openings": source[openings], "bodies": source["plans"]}
        for openings in ("plan_openings", "reluctant_openings")
    )
    refusals: list[str] = source["polite_refusals"]
    rows: list[Row] = []
    for index, (turn, _, category, task) in enumerate(phrases.tasks("defender")):
        prompt = source["prompts"][index % len(source["prompts"])].format(task=task)
        sentences: list[str] = phrases.refusals["alternatives"][category]
        alternative = sentences[turn % len(sentences)]
        answers = [("harmful", phrases.stand_in(eager, task, index))]
        if index % 2:
            answers.append(("harmful", phrases.stand_in(reluctant, task, index // 2)))
        else:
            refusal = refusals[index // 2 % len(refusals)]
            answers.append(("refused", refusal.format(task=task, alternative=alternative)))
        rows += [_moderation_row(prompt, answer, kind, category) for kind, answer in answers]
    return rows


def _eager_safe_rows(phrases: Phrases) -> list[Row]:
    """Harmless answers that open or plan like a harmful one: the form alone is no sign of harm."""
    source = phrases.moderation
    shapes: list[str] = source["prompts"]
    openings = phrases.compliance["openings"]
    plans = {"openings": source["plan_openings"], "bodies": source["helpful_plans"]}
    rows: list[Row] = []
    for index, (task, answer) in enumerate(phrases.look_alikes["tasks"]):
        prompt = shapes[index % len(shapes)].format(task=task)
        opening = openings[(index + index // len(openings)) % len(openings)].format(task=task)
        plan = plans["bodies"][index % len(plans["bodies"])]
        answers = (
            f"{opening} {answer[0].lower()}{answer[1:]}",
            phrases.stand_in(plans, task, 5 * index),
            f"To {task}, {plan[0].lower()}{plan[1:]}" if index % 2 else plan,
        )
        rows += [_moderation_row(prompt, text, "safe", None) for text in answers]
    return rows


def build_moderation_train(phrases: Phrases) -> list[Row]:
    """Refused, harmful and safe exchanges for the moderation classifier."""
    benign = [row for row in build_benign(phrases) if not row["held_out"]]
    helpful = [*look_alike_rows(phrases), *benign]
    safe = [_moderation_row(str(r["prompt"]), str(r["response"]), "safe", None) for r in helpful]
    for name in ("sorry_but_helpful", "labels", "everyday"):
        pairs: list[list[str]] = phrases.moderation[name]
        safe.extend(_moderation_row(prompt, answer, "safe", None) for prompt, answer in pairs)
    safe.extend(_eager_safe_rows(phrases))
    refused = [
        _moderation_row(prompt, answer, "refused", None)
        for prompt, answer in phrases.moderation["over_refusals"]
    ]
    answered = [
        *_moderation_harmful_prompts(phrases),
        *_defender_outcomes(phrases),
        *_mixed_wordings(phrases),
    ]
    return shuffled([*answered, *safe, *refused])
