import pytest

from api.files.download import ByteRange, UnsatisfiableRangeError, requested_range


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", ByteRange(0, 0)),
        ("bytes=0-", ByteRange(0, 9)),
        ("bytes=4-6", ByteRange(4, 6)),
        ("bytes=4-99", ByteRange(4, 9)),
        ("bytes=-3", ByteRange(7, 9)),
        ("bytes=-99", ByteRange(0, 9)),
        (None, None),
        ("", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=6-4", None),
        ("bytes=0-1,3-4", None),
        ("bytes=0-" + "9" * 30, None),
        ("items=0-1", None),
    ],
)
def test_one_range_of_ten_bytes(header: str | None, expected: ByteRange | None) -> None:
    assert requested_range(header, 10) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-12", "bytes=-0"])
def test_a_range_without_bytes_cannot_be_served(header: str) -> None:
    with pytest.raises(UnsatisfiableRangeError):
        requested_range(header, 10)


def test_an_empty_object_has_no_range() -> None:
    with pytest.raises(UnsatisfiableRangeError):
        requested_range("bytes=-5", 0)


def test_the_length_counts_both_ends() -> None:
    assert ByteRange(4, 6).length == 3
