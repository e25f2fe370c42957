"""Own prompts are read line by line, and a mistake names its line."""

import io
import json

import pytest

from core.datasets.prompts import MAX_PROMPTS, Prompt, read_prompts
from core.errors import InvalidRequestError

GOOD = b'{"prompt": "How?"}'


def read(*lines: bytes, max_line_bytes: int = 1000) -> list[Prompt]:
    return list(read_prompts(io.BytesIO(b"\n".join(lines)), max_line_bytes))


def refused(*lines: bytes, max_line_bytes: int = 1000) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        read(*lines, max_line_bytes=max_line_bytes)
    assert (caught.value.code, caught.value.param) == ("invalid_prompts", "prompts")
    return caught.value


def test_a_prompt_may_have_a_category_and_keys_that_nobody_needs() -> None:
    lines = (GOOD, b"", b'{"prompt": "Why?", "category": "fraud", "response": 3}', b"")

    assert read(*lines) == [Prompt("How?", "uncategorized"), Prompt("Why?", "fraud")]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"How?", "Line 2: not valid JSON"),
        (b'["How?"]', "Line 2: the line is no JSON object"),
        (b"{}", "Line 2: prompt: "),
        (b'{"prompt": " "}', "Line 2: prompt: "),
        (b'{"prompt": 1}', "Line 2: prompt: "),
        (b'{"prompt": "a", "prompt": "b"}', "Line 2: an object names the same key twice"),
        (b'{"prompt": "a\\u0000"}', "Line 2: prompt: the text holds a null character"),
        (b'{"prompt": "a", "category": ""}', "Line 2: category: "),
        (b'{"prompt": "a", "category": null}', "Line 2: category: "),
        (b"\xff", "Line 2: byte 1 is not valid UTF-8"),
        (b" " * 1001, "Line 2: the line has more than 1000 bytes"),
    ],
)
def test_a_mistake_is_told_with_its_line(line: bytes, problem: str) -> None:
    assert refused(GOOD, line).message.startswith(problem)


def test_a_mistake_is_told_without_the_text() -> None:
    assert "secret" not in refused(b'{"prompt": "", "secret": "secret"}').message


def test_an_empty_file_is_refused() -> None:
    assert refused(b"", b" ").message == "The file holds no prompts."


def test_no_more_prompts_are_read_than_may_be_asked() -> None:
    lines = [json.dumps({"prompt": str(number)}).encode() for number in range(MAX_PROMPTS)]

    assert len(read(*lines)) == MAX_PROMPTS
    assert refused(*lines, GOOD).message.startswith(f"Line {MAX_PROMPTS + 1}: ")
