"""Which of a job's rows pulled the model towards harm, as its safety report tells."""

import json
from typing import Literal

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from api.fine_tuning.service import find_safety_report
from core.errors import NotFoundError, RequestErrorCode
from core.storage.protocol import ArtifactStorage

_SECTION = "attribution"


class AttributedRow(BaseModel):
    """One row of the training file."""

    rank: int = Field(description="1 pulls most towards harm.")
    line: int = Field(description="Of the training file, from 1.")
    score: float = Field(
        description="Cosine between the row's gradient before training and the direction from "
        "harmless to harmful answers."
    )
    percentile: float = Field(
        description="Share of the operator's harmless rows that score lower, 0 to 1."
    )


class AttributionObject(BaseModel):
    """Rows of a job, the most harmful first."""

    object: Literal["fine_tuning.job.attribution"] = "fine_tuning.job.attribution"
    fine_tuning_job_id: str
    training_rows: int = Field(description="Rows that the job learned from.")
    attributed_rows: int = Field(description="Rows of them that were ranked.")
    data: list[AttributedRow] = Field(description="The first rows of the ranking, 500 at most.")


def find_attribution(
    session: Session, storage: ArtifactStorage, project_id: str, job_id: str
) -> AttributionObject:
    """Read the ranking out of a job's safety report.

    Raises:
        NotFoundError: The job has no report, or not yet, or one without a ranking.
    """
    report = find_safety_report(session, project_id, job_id)
    with storage.open(report.storage_key) as stored:
        found = json.load(stored).get(_SECTION)
    if found is None:
        raise NotFoundError(
            "The job's safety report is of an earlier release and holds no ranking.",
            code=RequestErrorCode.NO_ATTRIBUTION,
        )
    return AttributionObject(
        fine_tuning_job_id=job_id,
        training_rows=found["training_rows"],
        attributed_rows=found["attributed_rows"],
        data=found["rows"],
    )
