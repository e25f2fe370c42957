import pytest
import torch

from defense.errors import NoSupervisedTokensError
from defense.protocols import IGNORED, EncodedRow
from defense.training.batching import (
    RowSampler,
    ShuffledBatches,
    by_length,
    collate,
    supervised_rows,
)


def row(length: int, supervised: int = 1) -> EncodedRow:
    ids = tuple(range(1, length + 1))
    return EncodedRow(ids, (IGNORED,) * (length - supervised) + ids[length - supervised :])


def test_rows_are_padded_on_the_right_and_padding_is_not_counted() -> None:
    batch = collate([row(3), row(1, supervised=0)], pad_token_id=9)

    assert batch.input_ids_BT.tolist() == [[1, 2, 3], [1, 9, 9]]
    assert batch.attention_mask_BT.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.labels_BT.tolist() == [[IGNORED, IGNORED, 3], [IGNORED] * 3]
    assert batch.supervised_tokens == 1


def test_rows_without_supervised_tokens_are_left_out() -> None:
    usable = row(3)

    assert supervised_rows([row(4, supervised=0), usable], "training") == [usable]


def test_nothing_usable_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(NoSupervisedTokensError, match="none of the 1 harmful rows"):
        supervised_rows([row(4, supervised=0)], "harmful")


def test_every_row_is_read_once_per_pass_and_the_short_batch_is_kept_last() -> None:
    batches = ShuffledBatches([5] * 10, batch_size=4, seed=0)

    one_pass = list(batches)

    assert [len(batch) for batch in one_pass] == [4, 4, 2]
    assert sorted(index for batch in one_pass for index in batch) == list(range(10))
    assert len(batches) == 3


def test_each_pass_has_its_own_order_and_the_seed_decides_it() -> None:
    def passes(seed: int) -> list[list[list[int]]]:
        batches = ShuffledBatches([5] * 12, batch_size=4, seed=seed)
        return [list(batches), list(batches)]

    assert passes(1) == passes(1)
    assert passes(1)[0] != passes(1)[1]
    assert passes(1) != passes(2)


def test_rows_of_similar_length_share_a_batch() -> None:
    lengths = [1, 100] * 8

    batches = list(ShuffledBatches(lengths, batch_size=4, seed=0))

    assert all(len({lengths[index] for index in batch}) == 1 for batch in batches)


def test_the_sampler_goes_round_and_round() -> None:
    rows = [row(length) for length in (2, 3, 4)]
    sampler = RowSampler(rows, batch_size=2, seed=0)

    sizes = [len(sampler.next_batch()) for _ in range(4)]

    assert sizes == [2, 1, 2, 1]
    assert len(sampler) == 3


def test_the_sampler_does_not_touch_the_global_random_state() -> None:
    before = torch.get_rng_state()

    RowSampler([row(2), row(3)], batch_size=1, seed=0).next_batch()

    assert torch.equal(torch.get_rng_state(), before)


def test_sums_over_a_set_read_short_rows_first() -> None:
    rows = [row(4), row(2), row(3)]

    assert by_length(rows, 2) == [[rows[1], rows[2]], [rows[0]]]
