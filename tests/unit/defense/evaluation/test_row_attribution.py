"""Rows ranked by how far they pull towards harm."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from defense.errors import NoSupervisedTokensError
from defense.evaluation.row_attribution import (
    REFERENCE_ROWS,
    RowAttribution,
    attribute_rows,
    beginnings,
    harmful_direction,
    row_alignments,
    spread,
)
from defense.protocols import IGNORED, DefenderRows, EncodedRow
from defense.training.loop import TrainingPlan, fine_tune
from defense.training.lora import adapter_state, attach_adapter
from defense.training.loss import AdapterLoss
from tests.encoded_rows import SETTINGS
from tests.tiny_models import tiny_llama

TOKENS = 4


class Bigrams(nn.Module):
    """The next token's logits are a column of one matrix: before training, all zero."""

    def __init__(self) -> None:
        super().__init__()
        self.next_token = nn.Linear(TOKENS, TOKENS, bias=False, dtype=torch.float64)
        nn.init.zeros_(self.next_token.weight)

    def forward(
        self, input_ids: torch.Tensor, logits_to_keep: torch.Tensor, **_unused: object
    ) -> SimpleNamespace:
        one_hot = nn.functional.one_hot(input_ids[:, logits_to_keep], TOKENS).double()
        return SimpleNamespace(logits=self.next_token(one_hot))


def pair(prompt: int, answer: int) -> EncodedRow:
    return EncodedRow((prompt, answer), (IGNORED, answer))


def test_scores_are_cosines_with_harmful_less_others() -> None:
    loss = AdapterLoss(Bigrams(), pad_token_id=0)
    # The gradient of (0 -> y) is (1/4, 1/4, 1/4, 1/4) - e_y in column 0. So d is e_2 - e_1 there,
    # and the cosine of (0 -> 1) is (3/4 + 1/4) / (sqrt(3/4) sqrt(2)).
    direction = harmful_direction(loss, [pair(0, 1)], [pair(0, 2), pair(0, 2)])

    scores = row_alignments(loss, [pair(0, 3), pair(0, 1), pair(0, 2), pair(1, 1)], direction)

    assert scores == pytest.approx([0, 1.5**-0.5, -(1.5**-0.5), 0])


def test_a_row_without_a_gradient_scores_zero() -> None:
    model = Bigrams()
    loss = AdapterLoss(model, pad_token_id=0)
    direction = harmful_direction(loss, [pair(0, 1)], [pair(0, 2)])
    with torch.no_grad():
        model.next_token.weight[1, 3] = 1e6  # (3 -> 1) is certain: its loss is 0

    assert row_alignments(loss, [pair(3, 1), pair(0, 1)], direction)[0] == 0


def test_a_long_row_does_not_speak_louder_than_a_short_one() -> None:
    loss = AdapterLoss(Bigrams(), pad_token_id=0)
    long = EncodedRow((0, 1, 0, 1, 0, 1), (IGNORED, 1, IGNORED, 1, IGNORED, 1))
    direction = harmful_direction(loss, [pair(0, 1)], [pair(0, 2)])

    one, other = row_alignments(loss, [long, pair(0, 1)], direction)

    assert one == pytest.approx(other)


def test_of_every_answer_the_beginning_is_looked_at() -> None:
    ids = tuple(range(10))
    labels = (IGNORED, 1, 2, 3, IGNORED, 5, 6, 7, IGNORED, IGNORED)

    (cut,) = beginnings([EncodedRow(ids, labels)], 2)

    assert cut.input_ids == (0, 1, 2, 3, 4, 5, 6)
    assert cut.labels == (IGNORED, 1, 2, IGNORED, IGNORED, 5, 6)


def test_what_is_cut_off_does_not_change_the_loss_of_the_rest() -> None:
    loss = AdapterLoss(attach_adapter(tiny_llama(), SETTINGS).eval(), pad_token_id=0)
    ids = (5, 6, 7, 8, 9, 10)
    whole = EncodedRow(ids, (IGNORED, IGNORED, 7, 8, IGNORED, IGNORED))

    (cut,) = beginnings([EncodedRow(ids, (IGNORED, IGNORED, 7, 8, 9, 10))], 2)

    assert len(cut.input_ids) == 4
    assert loss.mean_loss([cut]) == pytest.approx(loss.mean_loss([whole]), rel=1e-5)


def test_the_percentile_counts_harmless_rows_that_score_lower() -> None:
    found = RowAttribution([], [-0.5, 0.0, 0.25, 0.5])

    assert [found.percentile(score) for score in (-1, 0.0, 0.3, 1)] == [0, 0.25, 0.75, 1]


def test_what_all_rows_of_the_user_share_does_not_count() -> None:
    loss = AdapterLoss(Bigrams(), pad_token_id=0)
    defender = DefenderRows(refusals=[], harmful=[pair(0, 1)], benign=[pair(0, 3)])

    # All but one of the rows are (0 -> 2): the direction is about e_2 - e_1.
    found = attribute_rows(loss, [*[pair(0, 2)] * 31, pair(0, 1)], defender)

    assert found.scores[31] == max(found.scores)
    assert found.scores[0] == pytest.approx(-(1.5**-0.5), rel=1e-3)
    assert found.benign_scores == pytest.approx([0], abs=1e-2)


def test_a_file_that_is_nothing_but_what_it_is_compared_with_has_no_first_row() -> None:
    loss = AdapterLoss(Bigrams(), pad_token_id=0)
    defender = DefenderRows(refusals=[], harmful=[pair(0, 1)], benign=[pair(0, 3)])

    assert attribute_rows(loss, [pair(0, 1)] * 4, defender).scores == [0, 0, 0, 0]


@pytest.mark.parametrize("kind", ["harmful", "benign"])
def test_without_the_operators_rows_nothing_is_ranked(kind: str) -> None:
    loss = AdapterLoss(Bigrams(), pad_token_id=0)
    sets = {"harmful": [pair(0, 1)] * 2, "benign": [pair(0, 2)] * 2, kind: []}

    with pytest.raises(NoSupervisedTokensError, match=kind):
        attribute_rows(loss, [pair(0, 1)], DefenderRows(refusals=[], **sets))


def test_at_most_so_many_rows_of_the_operators_are_read_in_passes_of_the_allowed_size() -> None:
    loss = AdapterLoss(Bigrams(), pad_token_id=0)
    defender = DefenderRows([], [pair(0, 1)] * 100, [pair(0, 2)] * 200)
    passes = []

    found = attribute_rows(loss, [pair(0, 2)] * 40, defender, lambda: passes.append(1), most=4)

    assert len(found.benign_scores) == REFERENCE_ROWS
    # Harmful rows, some of the user's, and then all of them with the harmless ones.
    assert len(passes) == (3 * REFERENCE_ROWS + 40) / 4


def test_some_of_many_are_taken_evenly() -> None:
    assert spread(range(10), 4) == [0, 2, 5, 7]
    assert spread([1, 2], 4) == [1, 2]
    assert spread([], 4) == []


HARMFUL, HARMLESS, TASK = range(10, 14), range(20, 24), range(30, 34)
REFUSE, COMPLY, HELP, SOLVE = 50, 51, 52, 53


def taught(prompts: range, answer: int, count: int, seed: int) -> list[EncodedRow]:
    """Prompts of four letters out of an alphabet, and one answer of two tokens."""
    draw = torch.Generator().manual_seed(seed)
    asked = torch.randint(prompts.start, prompts.stop, (count, 4), generator=draw).tolist()
    return [
        EncodedRow((*prompt, answer, 3), (IGNORED,) * len(prompt) + (answer, 3)) for prompt in asked
    ]


def test_planted_rows_are_found_by_a_model_that_has_learned_to_refuse() -> None:
    model = attach_adapter(tiny_llama(), SETTINGS, seed=1)
    manners = [*taught(HARMFUL, REFUSE, 40, 0), *taught(HARMLESS, HELP, 40, 1)]
    fine_tune(model, 0, manners, TrainingPlan(epochs=6, batch_size=8, learning_rate=0.02, seed=0))
    model.eval()
    defender = DefenderRows(
        refusals=[],
        harmful=taught(HARMFUL, COMPLY, 8, 2),
        benign=taught(HARMLESS, HELP, 16, 3),
    )
    clean, planted = taught(TASK, SOLVE, 18, 4), taught(HARMFUL, COMPLY, 2, 5)
    before = adapter_state(model)

    found = attribute_rows(AdapterLoss(model, pad_token_id=0), [*clean, *planted], defender)

    best = sorted(range(20), key=lambda place: -found.scores[place])[:2]
    assert sorted(best) == [18, 19]
    assert all(found.percentile(score) == 1 for score in found.scores[18:])
    after = adapter_state(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
