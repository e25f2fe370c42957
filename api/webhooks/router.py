"""Routes under `/v1/webhook_endpoints`. No SQL and no rules here: see `service.py`."""

from typing import Annotated

from fastapi import APIRouter, Depends

from api.dependencies import DeliveryIdPath, EndpointIdPath, SessionDep, SettingsDep
from api.errors import declares
from api.json_body import body_of, documented_body
from api.pagination import AfterQuery, LimitQuery, ListPage
from api.security import READS, TRAINS, CallerDep
from api.webhooks import service
from api.webhooks.schemas import (
    CREATE_EXAMPLE,
    ROTATE_EXAMPLE,
    TEST_EXAMPLE,
    UPDATE_EXAMPLE,
    DeletedWebhookEndpoint,
    WebhookDeliveryObject,
    WebhookEndpointCreate,
    WebhookEndpointObject,
    WebhookEndpointUpdate,
    WebhookEndpointWithSecret,
    WebhookSecretRotate,
    WebhookTestRequest,
)
from core.errors import ConflictError, InvalidRequestError, NotFoundError, PayloadTooLargeError

router = APIRouter(prefix="/webhook_endpoints", tags=["Webhooks"])


@router.post(
    "",
    dependencies=[TRAINS],
    operation_id="createWebhookEndpoint",
    summary="Create a webhook endpoint",
    responses=declares(ConflictError, InvalidRequestError, PayloadTooLargeError),
    openapi_extra=documented_body(WebhookEndpointCreate, CREATE_EXAMPLE),
)
def create_webhook_endpoint(
    session: SessionDep,
    caller: CallerDep,
    settings: SettingsDep,
    body: Annotated[WebhookEndpointCreate, Depends(body_of(WebhookEndpointCreate))],
) -> WebhookEndpointWithSecret:
    """Have an address told when jobs end; the answer shows the signing secret, this once."""
    return service.create(session, caller.project_id, settings, body)


@router.get(
    "",
    dependencies=[READS],
    operation_id="listWebhookEndpoints",
    summary="List webhook endpoints",
    responses=declares(InvalidRequestError),
)
def list_webhook_endpoints(
    session: SessionDep,
    caller: CallerDep,
    after: AfterQuery = None,
    limit: LimitQuery = 20,
) -> ListPage[WebhookEndpointObject]:
    """List the project's endpoints, newest first."""
    return service.list_endpoints(session, caller.project_id, after=after, limit=limit)


@router.get(
    "/{webhook_endpoint_id}",
    dependencies=[READS],
    operation_id="retrieveWebhookEndpoint",
    summary="Retrieve a webhook endpoint",
    responses=declares(NotFoundError),
)
def retrieve_webhook_endpoint(
    session: SessionDep,
    caller: CallerDep,
    webhook_endpoint_id: EndpointIdPath,
) -> WebhookEndpointObject:
    """Show one endpoint."""
    return service.retrieve(session, caller.project_id, webhook_endpoint_id)


@router.post(
    "/{webhook_endpoint_id}",
    dependencies=[TRAINS],
    operation_id="updateWebhookEndpoint",
    summary="Update a webhook endpoint",
    responses=declares(InvalidRequestError, NotFoundError, PayloadTooLargeError),
    openapi_extra=documented_body(WebhookEndpointUpdate, UPDATE_EXAMPLE),
)
def update_webhook_endpoint(
    session: SessionDep,
    caller: CallerDep,
    settings: SettingsDep,
    webhook_endpoint_id: EndpointIdPath,
    body: Annotated[WebhookEndpointUpdate, Depends(body_of(WebhookEndpointUpdate))],
) -> WebhookEndpointObject:
    """Change name, address or events, or switch the endpoint off and on."""
    return service.update(session, caller.project_id, webhook_endpoint_id, settings, body)


@router.delete(
    "/{webhook_endpoint_id}",
    dependencies=[TRAINS],
    operation_id="deleteWebhookEndpoint",
    summary="Delete a webhook endpoint",
    responses=declares(NotFoundError),
)
def delete_webhook_endpoint(
    session: SessionDep,
    caller: CallerDep,
    webhook_endpoint_id: EndpointIdPath,
) -> DeletedWebhookEndpoint:
    """Delete an endpoint and its deliveries; nothing is sent there any more."""
    return service.delete(session, caller.project_id, webhook_endpoint_id)


@router.post(
    "/{webhook_endpoint_id}/rotate_secret",
    dependencies=[TRAINS],
    operation_id="rotateWebhookEndpointSecret",
    summary="Rotate a signing secret",
    responses=declares(InvalidRequestError, NotFoundError, PayloadTooLargeError),
    openapi_extra=documented_body(WebhookSecretRotate, ROTATE_EXAMPLE),
)
def rotate_webhook_secret(
    session: SessionDep,
    caller: CallerDep,
    webhook_endpoint_id: EndpointIdPath,
    body: Annotated[WebhookSecretRotate, Depends(body_of(WebhookSecretRotate))],
) -> WebhookEndpointWithSecret:
    """Make a new secret and show it; the old one goes on signing for a day if asked to."""
    return service.rotate_secret(
        session,
        caller.project_id,
        webhook_endpoint_id,
        keep_old=body.keep_old_secret_active_for_24_hours,
    )


@router.post(
    "/{webhook_endpoint_id}/test",
    dependencies=[TRAINS],
    operation_id="testWebhookEndpoint",
    summary="Send a test event",
    responses=declares(InvalidRequestError, NotFoundError, PayloadTooLargeError),
    openapi_extra=documented_body(WebhookTestRequest, TEST_EXAMPLE),
)
def send_test_event(
    session: SessionDep,
    caller: CallerDep,
    webhook_endpoint_id: EndpointIdPath,
    body: Annotated[WebhookTestRequest, Depends(body_of(WebhookTestRequest))],
) -> WebhookDeliveryObject:
    """Send a made-up event, `data.test` true; its delivery tells how that went."""
    return service.send_test(session, caller.project_id, webhook_endpoint_id, body.event_type)


@router.get(
    "/{webhook_endpoint_id}/deliveries",
    dependencies=[READS],
    operation_id="listWebhookDeliveries",
    summary="List deliveries",
    responses=declares(InvalidRequestError, NotFoundError),
)
def list_webhook_deliveries(
    session: SessionDep,
    caller: CallerDep,
    webhook_endpoint_id: EndpointIdPath,
    after: AfterQuery = None,
    limit: LimitQuery = 20,
) -> ListPage[WebhookDeliveryObject]:
    """List what was sent to an endpoint and what is to be sent, newest first."""
    return service.list_deliveries(
        session, caller.project_id, webhook_endpoint_id, after=after, limit=limit
    )


@router.post(
    "/{webhook_endpoint_id}/deliveries/{delivery_id}/replay",
    dependencies=[TRAINS],
    operation_id="replayWebhookDelivery",
    summary="Replay a delivery",
    responses=declares(NotFoundError),
)
def replay_webhook_delivery(
    session: SessionDep,
    caller: CallerDep,
    webhook_endpoint_id: EndpointIdPath,
    delivery_id: DeliveryIdPath,
) -> WebhookDeliveryObject:
    """Send an event once more, under the same `webhook-id`, as a delivery of its own."""
    return service.replay(session, caller.project_id, webhook_endpoint_id, delivery_id)
