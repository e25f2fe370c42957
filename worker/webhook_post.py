"""One signed HTTP request to one endpoint, by the rules of Standard Webhooks."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import httpx
from standardwebhooks import Webhook

from core.repositories.webhook_deliveries import ClaimedDelivery
from core.settings import Settings
from core.webhook_addresses import ForbiddenAddressError, resolve

# For name, connection, request and headers together: a slow receiver holds nobody up for longer.
ATTEMPT_SECONDS: Final = 10.0
_TEST_JOB: Final = "ftjob-test"
# Threads of our own: asyncio would wait for a slow look-up at the end of every batch.
_RESOLVERS: Final = ThreadPoolExecutor(max_workers=16, thread_name_prefix="resolve")


@dataclass(frozen=True)
class PostResult:
    """What came of an attempt; no error means that the endpoint took the event."""

    status_code: int | None
    error: str | None


def event_body(delivery: ClaimedDelivery) -> str:
    """Write the event; every attempt sends the same bytes."""
    data: dict[str, object] = {"id": delivery.job_id or _TEST_JOB}
    if delivery.job_id is None:
        data["test"] = True
    event = {
        "id": delivery.event_id,
        "object": "event",
        "created_at": int(delivery.event_created_at.timestamp()),
        "type": delivery.event_type.value,
        "data": data,
    }
    return json.dumps(event, separators=(",", ":"))


def signed_headers(
    secrets: tuple[str, ...], event_id: str, body: str, now: datetime
) -> dict[str, str]:
    """Sign a body with each secret; a receiver needs to know one of them."""
    signatures = [Webhook(secret).sign(event_id, now, body) for secret in secrets]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


async def post(
    client: httpx.AsyncClient, delivery: ClaimedDelivery, settings: Settings
) -> PostResult:
    """Make one attempt; whatever goes wrong on the way is a result and not an exception."""
    try:
        async with asyncio.timeout(ATTEMPT_SECONDS):
            status_code = await _post(client, delivery, settings)
    except TimeoutError:
        return PostResult(None, f"No answer within {ATTEMPT_SECONDS:g} s.")
    except ForbiddenAddressError as error:
        return PostResult(None, error.message)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        return PostResult(None, f"The connection failed: {type(error).__name__}.")
    if 200 <= status_code < 300:  # noqa: PLR2004 - every kind of success
        return PostResult(status_code, None)
    return PostResult(status_code, f"The endpoint answered {status_code}.")


async def _post(client: httpx.AsyncClient, delivery: ClaimedDelivery, settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    target = await loop.run_in_executor(_RESOLVERS, resolve, delivery.url, settings)
    parts = urlsplit(delivery.url)
    body = event_body(delivery)
    request = client.build_request(
        "POST",
        # The checked address itself: a second look at the name could give another one.
        httpx.URL(delivery.url).copy_with(host=target.address, port=target.port),
        content=body,
        headers={
            "host": parts.netloc,
            "content-type": "application/json",
            **signed_headers(delivery.secrets, delivery.event_id, body, datetime.now(UTC)),
        },
        # What TLS asks for, and what the certificate must be made out to.
        extensions={"sni_hostname": target.host},
    )
    response = await client.send(request, stream=True)
    await response.aclose()  # nobody needs the answer's body, so none is read
    return response.status_code
