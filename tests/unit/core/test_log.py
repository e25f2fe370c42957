import json
import logging
from collections.abc import Iterator

import httpx
import pytest
import structlog

from core import api_keys
from core.log import REDACTED, configure_logging, describe_exception, redact
from core.settings import Settings


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_json_with_its_component_level_and_time(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(settings, "gateway")

    structlog.get_logger("test").info("job created", job_id="ftjob-1")

    (line,) = lines(capsys)
    assert line["event"] == "job created"
    assert line["job_id"] == "ftjob-1"
    assert (line["component"], line["level"], line["logger"]) == ("gateway", "info", "test")
    assert str(line["timestamp"]).endswith("Z")


def test_addresses_that_are_asked_are_not_logged(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(settings.model_copy(update={"log_level": "debug"}), "webhook-sender")

    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    with httpx.Client(transport=transport) as client:
        client.post("https://hooks.example/services/canary")

    assert "canary" not in capsys.readouterr().err


def test_lines_of_other_libraries_take_the_same_form(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(settings, "worker")

    try:
        raise RuntimeError("broken")  # noqa: TRY301 - the traceback is what is tested
    except RuntimeError:
        logging.getLogger("celery").exception("task %s", "failed")

    (line,) = lines(capsys)
    assert line["event"] == "task failed"
    assert line["component"] == "worker"
    assert "RuntimeError" in str(line["exception"])


def test_bound_context_is_on_every_line(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(settings, "gateway")

    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger().info("inside")
    structlog.get_logger().info("outside")

    inside, outside = lines(capsys)
    assert inside["request_id"] == "r1"
    assert "request_id" not in outside


def test_lines_below_the_level_are_dropped(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(settings, "gateway")

    structlog.get_logger().debug("detail")

    assert lines(capsys) == []


def test_secrets_are_blacked_out_wherever_they_lie() -> None:
    key = api_keys.generate().text
    event = {
        "event": f"refused {key}",
        "headers": {"Authorization": "Bearer abc", "accept": "*/*"},
        "urls": ["postgresql://user:canary@host/db"],
        "header": "Bearer canary",
    }

    told = json.dumps(redact(None, "info", event))

    assert key not in told
    assert "canary" not in told
    assert "Bearer abc" not in told
    assert told.count(REDACTED) == 4
    assert "*/*" in told


def test_a_secret_inside_a_traceback_is_blacked_out(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(settings, "gateway")
    key = api_keys.generate().text

    try:
        raise ValueError(key)  # noqa: TRY301
    except ValueError:
        structlog.get_logger().exception("failed")

    (line,) = lines(capsys)
    assert key not in str(line)
    assert "ValueError" in str(line["exception"])


def test_an_exception_tells_its_types_and_frames_and_never_what_it_says(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(settings, "worker")

    try:
        try:
            raise OSError(28, "canary-1", "/canary-2")  # noqa: TRY301
        except OSError as error:
            raise ValueError("canary-3 with\na row") from error
    except ValueError:
        structlog.get_logger("test").exception("failed", job_id="ftjob-1")

    (line,) = lines(capsys)
    assert "canary" not in json.dumps(line)
    told = str(line["exception"])
    assert told.startswith("ValueError\n  at ")
    assert "test_log.py:" in told
    assert "after OSError ENOSPC" in told


def test_a_library_that_writes_the_exception_into_its_message_tells_no_more(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(settings, "worker")

    try:
        raise KeyError("canary")  # noqa: TRY301
    except KeyError as error:
        logging.getLogger("celery").exception("task raised unexpected: %r", error)  # noqa: TRY401

    (line,) = lines(capsys)
    assert "canary" not in json.dumps(line)
    assert line["event"] == "task raised unexpected: KeyError"


def test_without_an_exception_nothing_is_described() -> None:
    event = {"event": "quiet", "exc_info": False}

    assert describe_exception(None, "info", event) == {"event": "quiet"}
