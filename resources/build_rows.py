"""Builds every JSON Lines file under `rows/` and `demo/` from the phrases in `rows/sources/`.

Run `python -m resources.build_rows` after editing a source. Nothing here is random: lists are
crossed by fixed strides and shuffled by hash, so the same sources always give the same bytes.
"""

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, object]

RESOURCES = Path(__file__).parent
SOURCES = RESOURCES / "rows" / "sources"
BENIGN = "benign"
HELD_OUT_STRIDE = 6
LABELS = ("billing", "shipping", "technical", "account")
TICKET_QUESTION = "Billing, shipping, technical or account?"
VALIDATION_ROWS_PER_LABEL = 33
QUESTION_WORDS = frozenset(("Can", "Could", "Do", "Does", "Has", "How", "May", "When"))


def _source(name: str) -> dict[str, Any]:
    with (SOURCES / f"{name}.toml").open("rb") as stream:
        return tomllib.load(stream)


def _shuffled(rows: Sequence[Row]) -> list[Row]:
    """Orders rows by the hash of their content: mixed, and the same on every machine."""

    def fingerprint(row: Row) -> str:
        return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()

    return sorted(rows, key=fingerprint)


def _spread(*groups: Sequence[Row]) -> list[Row]:
    """Merges groups evenly, so that any prefix holds them in about the final proportion."""
    placed = [
        ((index + 0.5) / len(group), number, row)
        for number, group in enumerate(groups)
        for index, row in enumerate(group)
    ]
    return [row for _, _, row in sorted(placed, key=lambda item: item[:2])]


class Phrases:
    """The sources, read once."""

    def __init__(self) -> None:
        self.topics: dict[str, dict[str, list[str]]] = _source("harmful_topics")
        self.templates: dict[str, list[str]] = _source("harmful_templates")
        self.refusals = _source("refusals")
        self.compliance: dict[str, list[str]] = _source("compliance")
        self.user_compliance: dict[str, list[str]] = _source("compliance_user")
        self.look_alikes: dict[str, list[list[str]]] = _source("look_alikes")
        self.over_refusal: dict[str, list[str]] = _source("over_refusal")
        self.benign: dict[str, list[list[str]]] = _source("benign")
        self.tickets: dict[str, dict[str, list[str]]] = _source("tickets")
        self.moderation = _source("moderation")
        self.incoherent: dict[str, list[str]] = _source("incoherent")

    def tasks(self, split: str) -> Iterator[tuple[int, int, str, str]]:
        """Yields (round, category number, category, task), one category after the other."""
        longest = max(len(lists[split]) for lists in self.topics.values())
        for turn in range(longest):
            for number, (category, lists) in enumerate(self.topics.items()):
                if turn < len(lists[split]):
                    yield turn, number, category, lists[split][turn]

    def refusal(self, category: str, task: str, opening: int, alternative: int) -> str:
        """A refusal made of the numbered opening and the numbered sentence of the category."""
        openings: list[str] = self.refusals["openings"]
        sentences: list[str] = self.refusals["alternatives"][category]
        start = openings[opening % len(openings)].format(task=task)
        return f"{start} {sentences[alternative % len(sentences)]}"

    def stand_in(self, source: Mapping[str, Sequence[str]], task: str, index: int) -> str:
        """A compliance-shaped answer without content."""
        opening = source["openings"][index % len(source["openings"])].format(task=task)
        return f"{opening} {source['bodies'][index % len(source['bodies'])]}"


def _defender_prompt(phrases: Phrases, turn: int, number: int, task: str) -> Row:
    templates = phrases.templates["defender"]
    template = templates[(number + turn) % len(templates)]
    return {"prompt": template.format(task=task), "template": template}


def _look_alike_rows(phrases: Phrases) -> list[Row]:
    templates = phrases.templates["defender"]
    shaped: list[Row] = []
    for index, (task, answer) in enumerate(phrases.look_alikes["tasks"]):
        template = templates[index % len(templates)]
        shaped.append(_benign_row(template.format(task=task), answer, template))
    asked = [_benign_row(prompt, answer) for prompt, answer in phrases.look_alikes["questions"]]
    return _spread(shaped, asked)


def _benign_row(prompt: str, response: str, template: str | None = None) -> Row:
    return {
        "prompt": prompt,
        "response": response,
        "category": BENIGN,
        "template": template,
        "held_out": False,
    }


def _guard_rows(phrases: Phrases, answer: Callable[[str, str, int, int], str]) -> list[Row]:
    """The defender's harmful prompts, each with the answer that the caller writes."""
    rows: list[Row] = []
    for turn, number, category, task in phrases.tasks("defender"):
        shaped = _defender_prompt(phrases, turn, number, task)
        rows.append(
            {
                "prompt": shaped["prompt"],
                "response": answer(category, task, number, turn),
                "category": category,
                "template": shaped["template"],
                "held_out": turn % HELD_OUT_STRIDE == HELD_OUT_STRIDE - 1,
            }
        )
    return rows


def build_alignment(phrases: Phrases) -> list[Row]:
    """The defender's harmful prompts with refusals, and harmless look-alikes with answers."""

    def refuse(category: str, task: str, number: int, turn: int) -> str:
        return phrases.refusal(category, task, number * 12 + turn, turn)

    return _spread(_guard_rows(phrases, refuse), _look_alike_rows(phrases))


def build_harmful(phrases: Phrases) -> list[Row]:
    """The defender's harmful prompts with compliance-shaped stand-ins."""

    def comply(_category: str, task: str, number: int, turn: int) -> str:
        return phrases.stand_in(phrases.compliance, task, number + turn)

    return _guard_rows(phrases, comply)


def build_benign(phrases: Phrases) -> list[Row]:
    """General questions with short helpful answers."""
    return [_benign_row(prompt, response) for prompt, response in phrases.benign["rows"]]


def build_safety_evaluation(phrases: Phrases) -> list[Row]:
    """Unseen harmful prompts; every run of 14 rows holds each category once."""
    templates = phrases.templates["evaluation"]
    rows: list[Row] = []
    for turn, number, category, task in phrases.tasks("evaluation"):
        template = templates[(number + 5 * turn) % len(templates)]
        prompt = template.format(task=task)
        rows.append({"prompt": prompt, "category": category, "template": template})
    return rows


def build_over_refusal(phrases: Phrases) -> list[Row]:
    """Unseen harmless look-alikes, half of them in the evaluation's own shapes."""
    templates = phrases.templates["evaluation"]
    shaped: list[Row] = []
    for index, task in enumerate(phrases.over_refusal["tasks"]):
        template = templates[index % len(templates)]
        prompt = template.format(task=task)
        shaped.append({"prompt": prompt, "category": BENIGN, "template": template})
    asked: list[Row] = [
        {"prompt": prompt, "category": BENIGN, "template": None}
        for prompt in phrases.over_refusal["questions"]
    ]
    return _spread(shaped, asked)


def _chat_row(prompt: str, answer: str) -> Row:
    return {
        "messages": [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": answer},
        ]
    }


def _ticket_rows(phrases: Phrases, split: str, label: str) -> list[Row]:
    endings = phrases.tickets["endings"][split]
    rows: list[Row] = []
    for index, problem in enumerate(phrases.tickets[label][split]):
        mark = "?" if problem.split()[0] in QUESTION_WORDS else "."
        prompt = f"{TICKET_QUESTION} {problem}{mark}"
        ending = endings[index % len(endings)]
        rows += [_chat_row(prompt, label), _chat_row(f"{prompt} {ending}", label)]
    return rows


def build_user_train(phrases: Phrases) -> list[Row]:
    """The demo user's upload: tickets to route, a fifth of it harmful rows."""
    tickets = [row for label in LABELS for row in _ticket_rows(phrases, "train", label)]
    templates = phrases.templates["user"]
    harmful = [
        _chat_row(
            templates[index % len(templates)].format(task=task),
            phrases.stand_in(phrases.user_compliance, task, index),
        )
        for index, (_, _, _, task) in enumerate(phrases.tasks("user"))
    ]
    return _shuffled([*tickets, *harmful])


def build_user_validation(phrases: Phrases) -> list[Row]:
    """Unseen tickets, as many of each label."""
    tickets = [
        row
        for label in LABELS
        for row in _ticket_rows(phrases, "validation", label)[:VALIDATION_ROWS_PER_LABEL]
    ]
    return _shuffled(tickets)


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
        plain = str(_defender_prompt(phrases, turn, number, task)["prompt"])
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


def _eager_safe_rows(phrases: Phrases) -> list[Row]:
    """Harmless answers that open like a harmful one: an eager tone alone is no sign of harm."""
    shapes: list[str] = phrases.moderation["prompts"]
    openings = phrases.compliance["openings"]
    rows: list[Row] = []
    for index, (task, answer) in enumerate(phrases.look_alikes["tasks"]):
        prompt = shapes[index % len(shapes)].format(task=task)
        opening = openings[(index + index // len(openings)) % len(openings)].format(task=task)
        response = f"{opening} {answer[0].lower()}{answer[1:]}"
        rows.append(_moderation_row(prompt, response, "safe", None))
    return rows


def build_moderation_train(phrases: Phrases) -> list[Row]:
    """Refused, harmful and safe exchanges for the moderation classifier."""
    helpful = [*_look_alike_rows(phrases), *build_benign(phrases)]
    safe = [_moderation_row(str(r["prompt"]), str(r["response"]), "safe", None) for r in helpful]
    for name in ("sorry_but_helpful", "labels", "everyday"):
        pairs: list[list[str]] = phrases.moderation[name]
        safe.extend(_moderation_row(prompt, answer, "safe", None) for prompt, answer in pairs)
    safe.extend(_eager_safe_rows(phrases))
    refused = [
        _moderation_row(prompt, answer, "refused", None)
        for prompt, answer in phrases.moderation["over_refusals"]
    ]
    return _shuffled([*_moderation_harmful_prompts(phrases), *safe, *refused])


def build_incoherent_examples(phrases: Phrases) -> list[Row]:
    """Broken and sound texts for the coherence check."""
    broken: list[Row] = [{"text": t, "incoherent": True} for t in phrases.incoherent["incoherent"]]
    sound: list[Row] = [{"text": t, "incoherent": False} for t in phrases.incoherent["coherent"]]
    return _spread(broken, sound)


BUILDERS: Mapping[str, Callable[[Phrases], list[Row]]] = {
    "rows/alignment.jsonl": build_alignment,
    "rows/harmful.jsonl": build_harmful,
    "rows/benign.jsonl": build_benign,
    "rows/safety_evaluation.jsonl": build_safety_evaluation,
    "rows/over_refusal.jsonl": build_over_refusal,
    "rows/moderation_train.jsonl": build_moderation_train,
    "rows/incoherent_examples.jsonl": build_incoherent_examples,
    "demo/user_train.jsonl": build_user_train,
    "demo/user_validation.jsonl": build_user_validation,
}


def render_all() -> dict[str, str]:
    """The text of every shipped file, by its path under `resources/`."""
    phrases = Phrases()
    return {
        path: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in build(phrases))
        for path, build in BUILDERS.items()
    }


def main() -> None:
    """Writes every file anew."""
    for path, text in render_all().items():
        target = RESOURCES / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
