from datetime import UTC, datetime, timedelta

from worker.webhook_post import signed_headers
from worker.webhook_sender import LONGEST_DELAY, retry_delay

SECRET = "whsec_cGFuYWNlYS10ZXN0LXNlY3JldC0wMTIzNDU2Nzg5YWI="
BODY = (
    '{"id":"evt_test_1","object":"event","created_at":1767225600,'
    '"type":"fine_tuning.job.succeeded","data":{"id":"ftjob-abc123"}}'
)
NOW = datetime.fromtimestamp(1767225600, UTC)


def test_a_signature_is_the_published_one() -> None:
    assert signed_headers((SECRET,), "evt_test_1", BODY, NOW) == {
        "webhook-id": "evt_test_1",
        "webhook-timestamp": "1767225600",
        "webhook-signature": "v1,3BA3BY39KO3l1fTJ7eQYBH4M/q5LI5WddwVA6yrfcR0=",
    }


def test_two_secrets_give_two_signatures() -> None:
    headers = signed_headers((SECRET, "whsec_b2xk"), "evt_test_1", BODY, NOW)

    first, second = headers["webhook-signature"].split(" ")
    assert first == "v1,3BA3BY39KO3l1fTJ7eQYBH4M/q5LI5WddwVA6yrfcR0="
    assert second.startswith("v1,")


def test_waits_double_up_to_a_limit_and_jitter_shortens_them() -> None:
    seconds = [retry_delay(attempt, 0.0).total_seconds() for attempt in (1, 2, 3)]

    assert seconds == [5, 10, 20]
    assert retry_delay(1, 1.0) == timedelta(seconds=3.75)
    assert retry_delay(500, 0.0) == LONGEST_DELAY
