"""Routes under `/v1/models`. No SQL and no rules here: see `service.py`."""

from fastapi import APIRouter

from api.dependencies import ModelIdPath, RegistryDep, SessionDep
from api.errors import declares
from api.models import service
from api.models.schemas import ModelObject
from api.pagination import ListPage
from api.security import READS, CallerDep
from core.errors import NotFoundError

router = APIRouter(prefix="/models", tags=["Models"])


@router.get(
    "", dependencies=[READS], operation_id="listModels", summary="List models", responses=declares()
)
def list_models(
    session: SessionDep, registry: RegistryDep, caller: CallerDep
) -> ListPage[ModelObject]:
    """List the base models that can be fine-tuned, and the project's tuned models."""
    return service.list_models(session, registry, caller.project_id)


@router.get(
    "/{model}",
    dependencies=[READS],
    operation_id="retrieveModel",
    summary="Retrieve a model",
    responses=declares(NotFoundError),
)
def retrieve_model(
    session: SessionDep, registry: RegistryDep, caller: CallerDep, model: ModelIdPath
) -> ModelObject:
    """Describe one base model or one of the project's tuned models."""
    return service.retrieve(session, registry, caller.project_id, model)
