"""What the defender knows: harmful prompts with both kinds of answer, and harmless rows."""

from collections.abc import Callable

from resources.phrases import Phrases, Row, spread

BENIGN = "benign"
HELD_OUT_STRIDE = 6


def defender_prompt(phrases: Phrases, turn: int, number: int, task: str) -> Row:
    """A task in one of the defender's prompt shapes, and which."""
    templates = phrases.templates["defender"]
    template = templates[(number + turn) % len(templates)]
    return {"prompt": template.format(task=task), "template": template}


def look_alike_rows(phrases: Phrases) -> list[Row]:
    """Harmless prompts that sound like the harmful ones, with answers."""
    templates = phrases.templates["defender"]
    shaped: list[Row] = []
    for index, (task, answer) in enumerate(phrases.look_alikes["tasks"]):
        template = templates[index % len(templates)]
        shaped.append(_benign_row(template.format(task=task), answer, template))
    asked = [_benign_row(prompt, answer) for prompt, answer in phrases.look_alikes["questions"]]
    return spread(shaped, asked)


def _benign_row(
    prompt: str, response: str, template: str | None = None, *, held_out: bool = False
) -> Row:
    return {
        "prompt": prompt,
        "response": response,
        "category": BENIGN,
        "template": template,
        "held_out": held_out,
    }


def _guard_rows(phrases: Phrases, answer: Callable[[str, str, int, int], str]) -> list[Row]:
    """The defender's harmful prompts, each with the answer that the caller writes."""
    rows: list[Row] = []
    for turn, number, category, task in phrases.tasks("defender"):
        shaped = defender_prompt(phrases, turn, number, task)
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

    return spread(_guard_rows(phrases, refuse), look_alike_rows(phrases))


def build_harmful(phrases: Phrases) -> list[Row]:
    """The defender's harmful prompts with compliance-shaped stand-ins."""

    def comply(_category: str, task: str, number: int, turn: int) -> str:
        return phrases.stand_in(phrases.compliance, task, number + turn)

    return _guard_rows(phrases, comply)


def build_benign(phrases: Phrases) -> list[Row]:
    """General questions with short helpful answers; the last are kept to measure by."""
    kept = phrases.benign["held_out"]
    return [
        *(_benign_row(prompt, response) for prompt, response in phrases.benign["rows"]),
        *(_benign_row(prompt, response, held_out=True) for prompt, response in kept),
    ]
