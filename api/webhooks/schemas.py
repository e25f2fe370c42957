"""Webhook endpoints and deliveries on the wire; endpoints have OpenAI's shape."""

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.pagination import ListedObject
from core.models import DeliveryStatus, WebhookDelivery, WebhookEndpoint, WebhookEventType

Name = Annotated[str, Field(min_length=1, max_length=100)]
Url = Annotated[str, Field(min_length=1, max_length=2048)]
EventTypes = Annotated[list[WebhookEventType], Field(min_length=1, max_length=3)]

CREATE_EXAMPLE: Final = {
    "name": "training bot",
    "url": "https://example.com/hooks/tuneward",
    "event_types": ["fine_tuning.job.succeeded", "fine_tuning.job.failed"],
}
UPDATE_EXAMPLE: Final = {"enabled": False}
ROTATE_EXAMPLE: Final = {"keep_old_secret_active_for_24_hours": True}
TEST_EXAMPLE: Final = {"event_type": "fine_tuning.job.succeeded"}

_HINT_LENGTH: Final = 4


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WebhookEndpointCreate(_Request):
    """A new endpoint."""

    name: Name
    url: Url
    event_types: EventTypes


class WebhookEndpointUpdate(_Request):
    """What to change; what is left out stays."""

    name: Name = Field(default="")
    url: Url = Field(default="")
    event_types: EventTypes = Field(default=[])
    enabled: bool = Field(
        default=True, strict=True, description="Nothing is sent to a disabled endpoint."
    )


class WebhookSecretRotate(_Request):
    """How to change the secret."""

    keep_old_secret_active_for_24_hours: bool = Field(default=False, strict=True)


class WebhookTestRequest(_Request):
    """What to send as a test."""

    event_type: WebhookEventType = WebhookEventType.SUCCEEDED


class WebhookEndpointObject(ListedObject):
    """An address that is told when jobs end."""

    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: int
    updated_at: int
    name: str
    url: str
    event_types: list[WebhookEventType]
    enabled: bool
    signing_secret_hint: str = Field(description="The last letters of the secret.")


class WebhookEndpointWithSecret(WebhookEndpointObject):
    """An endpoint with its secret, which is shown this once."""

    signing_secret: str = Field(description="`whsec_…`; checks the signatures.", repr=False)


class DeletedWebhookEndpoint(BaseModel):
    """A deleted endpoint."""

    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: Literal[True] = True


class WebhookDeliveryObject(ListedObject):
    """An event on its way to an endpoint, and how that went."""

    object: Literal["webhook_endpoint.delivery"] = "webhook_endpoint.delivery"
    webhook_endpoint_id: str
    event_id: str = Field(description="Sent as `webhook-id`; the same in every repetition.")
    event_type: WebhookEventType
    job_id: str | None = Field(description="Null for a test event.")
    status: DeliveryStatus
    attempt: int = Field(description="How often it was tried.")
    status_code: int | None = Field(description="The last answer's; null if there was none.")
    error: str | None = Field(description="Why the last attempt failed.")
    created_at: int
    last_attempt_at: int | None
    next_attempt_at: int | None
    finished_at: int | None


def show_endpoint(endpoint: WebhookEndpoint) -> WebhookEndpointObject:
    """Show an endpoint without its secret."""
    return WebhookEndpointObject(
        id=endpoint.id,
        created_at=int(endpoint.created_at.timestamp()),
        updated_at=int(endpoint.updated_at.timestamp()),
        name=endpoint.name,
        url=endpoint.url,
        event_types=[WebhookEventType(name) for name in endpoint.event_types],
        enabled=endpoint.enabled,
        signing_secret_hint=f"…{endpoint.secret[-_HINT_LENGTH:]}",
    )


def show_with_secret(endpoint: WebhookEndpoint) -> WebhookEndpointWithSecret:
    """Show an endpoint to whom has just made its secret."""
    shown = show_endpoint(endpoint).model_dump()
    return WebhookEndpointWithSecret(**shown, signing_secret=endpoint.secret)


def show_delivery(delivery: WebhookDelivery) -> WebhookDeliveryObject:
    """Show a delivery."""
    return WebhookDeliveryObject(
        id=delivery.id,
        webhook_endpoint_id=delivery.endpoint_id,
        event_id=delivery.event_id,
        event_type=delivery.event_type,
        job_id=delivery.job_id,
        status=delivery.status,
        attempt=delivery.attempt,
        status_code=delivery.status_code,
        error=delivery.error,
        created_at=int(delivery.created_at.timestamp()),
        last_attempt_at=_seconds(delivery.last_attempt_at),
        next_attempt_at=_seconds(delivery.next_attempt_at),
        finished_at=_seconds(delivery.finished_at),
    )


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
