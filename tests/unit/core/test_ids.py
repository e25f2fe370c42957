from core.ids import ALPHABET, new_id


def test_an_id_is_its_prefix_and_24_letters_or_digits() -> None:
    prefix, _, rest = new_id("ftjob").partition("-")

    assert prefix == "ftjob"
    assert len(rest) == 24
    assert set(rest) <= set(ALPHABET)


def test_ids_do_not_repeat() -> None:
    assert len({new_id("file") for _ in range(1000)}) == 1000
