"""Who is calling: the project of the API key, and nothing the request says besides."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.state import GatewayState, gateway_state
from core import api_keys
from core.errors import AuthenticationError

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="ApiKey",
    description="An API key of this server, as `Authorization: Bearer tw_…`.",
)


@dataclass(frozen=True)
class Caller:
    """The project and the key a request was made with."""

    project_id: str
    key_id: str


def authenticate(
    state: Annotated[GatewayState, Depends(gateway_state)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    """Find the caller in a transaction of its own, so that no later error undoes it.

    Raises:
        AuthenticationError: No key came with the request, or one that opens nothing.
    """
    if credentials is None:
        raise AuthenticationError(
            "You didn't provide an API key.", hint="Send it as `Authorization: Bearer <key>`."
        )
    with state.database.session() as session:
        key = api_keys.authenticate(session, credentials.credentials)
        return Caller(project_id=key.project_id, key_id=key.id)


CallerDep = Annotated[Caller, Depends(authenticate)]
