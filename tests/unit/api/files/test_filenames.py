import pytest

from api.files.filenames import content_disposition, display_name


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("train.jsonl", "train.jsonl"),
        ("my rows.jsonl", "my rows.jsonl"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("a\x00b\r\nc.jsonl", "abc.jsonl"),
        ("\u202etxt.exe", "txt.exe"),
        ("größe.jsonl", "größe.jsonl"),
        ("", "upload.jsonl"),
        ("...", "upload.jsonl"),
        (None, "upload.jsonl"),
    ],
)
def test_only_a_plain_last_part_is_kept(raw: str | None, shown: str) -> None:
    assert display_name(raw) == shown


def test_a_name_cannot_break_out_of_its_header() -> None:
    header = content_disposition('a"; filename="b\r\nSet-Cookie: x=1.ö')

    assert header == (
        'attachment; filename="a__ filename__b__Set-Cookie_ x_1._"; '
        "filename*=UTF-8''a%22%3B%20filename%3D%22b%0D%0ASet-Cookie%3A%20x%3D1.%C3%B6"
    )
