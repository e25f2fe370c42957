import pytest

from core.strict_json import StrictJsonError, join_path, parse_strict


def test_ordinary_json_is_read() -> None:
    assert parse_strict(b'{"a": [1, 2.5, true, null, "\xc3\xa9"]}') == {
        "a": [1, 2.5, True, None, "é"]
    }


@pytest.mark.parametrize(
    ("document", "code", "path"),
    [
        (b"", "invalid_json", ""),
        (b'{"a": {"b": NaN}}', "number_not_finite", "a.b"),
        (b'{"a": [1, -Infinity]}', "number_not_finite", "a[1]"),
        (b'{"a": {"b": 1, "b": 2}}', "duplicate_key", "a"),
        (b'{"a": "\\u0000"}', "null_character", "a"),
        (b'{"a\\u0000": 1}', "null_character", ""),
        (b'{"a": "\\ud800x"}', "lone_surrogate", "a"),
        (b'{"a": ' + b"[" * 65 + b"]" * 65 + b"}", "nested_too_deep", "a" + "[0]" * 64),
        (b'\xef\xbb\xbf{"a": 1}', "byte_order_mark", ""),
        (b'{"a": "\xc3"}', "invalid_utf8", ""),
    ],
)
def test_what_would_break_later_is_refused_at_its_place(
    document: bytes, code: str, path: str
) -> None:
    with pytest.raises(StrictJsonError) as caught:
        parse_strict(document)

    assert (caught.value.code, caught.value.path) == (code, path)


def test_a_path_does_not_repeat_an_unusual_key() -> None:
    assert join_path("a", "b-c_1") == "a.b-c_1"
    assert join_path("a", "my secret") == "a.<key>"
    assert join_path("", "x" * 65) == "<key>"
    assert join_path("a", 3) == "a[3]"
