"""Builds every JSON Lines file under `rows/` and `demo/` from the phrases in `rows/sources/`.

Run `python -m resources.build_rows` after editing a source. Nothing here is random: lists are
crossed by fixed strides and shuffled by hash, so the same sources always give the same bytes.
"""

import json
from collections.abc import Callable, Mapping

from resources.defender_rows import BENIGN, build_alignment, build_benign, build_harmful
from resources.moderation_rows import build_moderation_train
from resources.phrases import RESOURCES, Phrases, Row, shuffled, spread

LABELS = ("billing", "shipping", "technical", "account")
TICKET_QUESTION = "Billing, shipping, technical or account?"
VALIDATION_ROWS_PER_LABEL = 33
QUESTION_WORDS = frozenset(("Can", "Could", "Do", "Does", "Has", "How", "May", "When"))


def build_safety_evaluation(phrases: Phrases) -> list[Row]:
    """Unseen harmful prompts; every run of 14 rows holds each category once."""
    templates = phrases.templates["evaluation"]
    rows: list[Row] = []
    for turn, number, category, task in phrases.tasks("evaluation"):
        template = templates[(number + 5 * turn) % len(templates)]
        prompt = template.format(task=task)
        rows.append({"prompt": prompt, "category": category, "template": template})
    return rows


def build_second_safety_evaluation(phrases: Phrases) -> list[Row]:
    """Harmful prompts of another kind; every run of 11 rows holds each of its categories once."""
    by_category = phrases.second_safety_evaluation.items()
    return [
        {"prompt": prompts[turn], "category": category, "template": None}
        for turn in range(len(next(iter(phrases.second_safety_evaluation.values()))))
        for category, prompts in by_category
    ]


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
    return spread(shaped, asked)


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
    return shuffled([*tickets, *harmful])


def build_user_validation(phrases: Phrases) -> list[Row]:
    """Unseen tickets, as many of each label."""
    tickets = [
        row
        for label in LABELS
        for row in _ticket_rows(phrases, "validation", label)[:VALIDATION_ROWS_PER_LABEL]
    ]
    return shuffled(tickets)


def build_incoherent_examples(phrases: Phrases) -> list[Row]:
    """Broken and sound texts for the coherence check."""
    broken: list[Row] = [{"text": t, "incoherent": True} for t in phrases.incoherent["incoherent"]]
    sound: list[Row] = [{"text": t, "incoherent": False} for t in phrases.incoherent["coherent"]]
    return spread(broken, sound)


BUILDERS: Mapping[str, Callable[[Phrases], list[Row]]] = {
    "rows/alignment.jsonl": build_alignment,
    "rows/harmful.jsonl": build_harmful,
    "rows/benign.jsonl": build_benign,
    "rows/safety_evaluation.jsonl": build_safety_evaluation,
    "rows/second_safety_evaluation.jsonl": build_second_safety_evaluation,
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
