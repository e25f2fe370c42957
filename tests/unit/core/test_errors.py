import pytest

from core import errors
from core.errors import ConflictError, InvalidRequestError, TunewardError

EVERY_CLASS = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, TunewardError)
]


@pytest.mark.parametrize("error", EVERY_CLASS)
def test_every_error_stands_in_the_tree_at_the_top_of_the_file(error: type[TunewardError]) -> None:
    tree = [line for line in (errors.__doc__ or "").splitlines() if error.__name__ in line.split()]

    assert len(tree) == 1
    assert f" {int(error.status)} " in tree[0]
    assert error.code in tree[0]
    assert ("retryable" in tree[0]) == error.retryable


def test_a_conflict_is_answered_in_a_way_that_clients_do_not_repeat() -> None:
    assert ConflictError.status == 400
    assert not ConflictError.retryable


def test_a_code_given_at_the_raise_site_replaces_the_one_of_the_class() -> None:
    error = InvalidRequestError("No.", param="model", code="unknown_model", hint="List the models.")

    assert (error.code, error.param, error.hint) == ("unknown_model", "model", "List the models.")
    assert InvalidRequestError("No.").code == "invalid_request"
