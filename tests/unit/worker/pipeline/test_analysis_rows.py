"""Which of the operator's rows an analysis attacks with, and which it judges by."""

from worker.pipeline.analysis_rows import JUDGED_PROMPTS, choose_analysis_rows
from worker.row_sources import PromptRow


def rows(*prompts: str) -> list[PromptRow]:
    return [PromptRow(prompt, "answer", "") for prompt in prompts]


ALIGNMENT = rows(*(f"harm {number}" for number in range(10)))  # 4 and 9 are held out


def test_harmful_rows_of_held_out_prompts_are_judged_by_and_the_others_attack() -> None:
    found = choose_analysis_rows(ALIGNMENT, rows("harm 0", "harm 4", "other"), rows("asked"))

    assert [row.prompt for row in found.refusals] == ["harm 4", "harm 9"]
    assert [row.prompt for row in found.harmful] == ["harm 4"]
    assert [row.prompt for row in found.attack] == ["harm 0", "other"]
    assert found.prompts == ["asked"]
    assert found.held_out


def test_a_row_that_says_it_is_held_out_never_attacks() -> None:
    held = PromptRow("own", "answer", "", held_out=True)

    found = choose_analysis_rows(ALIGNMENT, [*rows("harm 0"), held], rows("asked"))

    assert (found.harmful, found.attack) == ([held], rows("harm 0"))


def test_of_harmful_rows_with_other_prompts_every_fifth_prompt_is_judged_by() -> None:
    harmful = rows(*"abcdefgh", "e")

    found = choose_analysis_rows(ALIGNMENT, harmful, rows("asked"))

    assert [row.prompt for row in found.harmful] == ["e", "e"]
    assert [row.prompt for row in found.attack] == [*"abcdfgh"]
    assert not found.held_out


def test_nobody_attacks_with_a_prompt_that_is_asked_afterwards() -> None:
    found = choose_analysis_rows(ALIGNMENT, rows("harm 0", "harm 4", "asked"), rows("asked"))

    assert [row.prompt for row in found.attack] == ["harm 0"]


def test_prompts_are_taken_evenly() -> None:
    asked = rows(*(f"prompt {number}" for number in range(2 * JUDGED_PROMPTS)))

    found = choose_analysis_rows(ALIGNMENT, rows("harm 4"), asked)

    assert found.prompts == [f"prompt {2 * number}" for number in range(JUDGED_PROMPTS)]
