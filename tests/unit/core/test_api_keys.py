import hashlib

import pytest

from core import api_keys
from core.errors import AuthenticationError


def test_a_key_is_its_prefix_a_public_id_and_a_secret() -> None:
    key = api_keys.generate()

    prefix, public_id, secret = key.text.split("_")

    assert prefix == "tw"
    assert public_id == key.public_id
    assert hashlib.sha256(secret.encode()).hexdigest() == key.secret_sha256


def test_the_random_part_of_the_secret_has_at_least_192_bits() -> None:
    assert 62**api_keys.SECRET_LENGTH > 2**192


def test_a_generated_key_can_be_read_again() -> None:
    key = api_keys.generate()

    presented = api_keys.parse(key.text)

    assert (presented.public_id, presented.secret_sha256) == (key.public_id, key.secret_sha256)


def test_no_two_keys_are_alike() -> None:
    assert api_keys.generate().text != api_keys.generate().text


@pytest.mark.parametrize("position", [0, 3, 12, 20, 40, 60, -1])
def test_one_mistyped_character_is_noticed_without_a_query(position: int) -> None:
    text = api_keys.generate().text
    wrong = "x" if text[position] != "x" else "y"
    mistyped = text[:position] + wrong + text[position:][1:]

    with pytest.raises(AuthenticationError):
        api_keys.parse(mistyped)


@pytest.mark.parametrize(
    "text", ["", "tw", "sk-123", "tw__", "tw_abc_def", "tw_" + "a" * 66, "tw_ä", "x" * 10_000]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(AuthenticationError, match="Incorrect API key"):
        api_keys.parse(text)


def test_a_line_break_after_a_good_key_is_refused() -> None:
    with pytest.raises(AuthenticationError):
        api_keys.parse(api_keys.generate().text + "\n")


def test_neither_form_of_a_key_shows_its_secret() -> None:
    key = api_keys.generate()
    secret = key.text.split("_")[2]

    shown = repr(key) + repr(api_keys.parse(key.text))

    assert secret not in shown
    assert key.secret_sha256 not in shown
