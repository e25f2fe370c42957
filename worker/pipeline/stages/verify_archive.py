"""Stage `verify_archive`: use the archive as somebody who downloaded it would.

Unpacks the archive as storage holds it, loads it with plain `peft` on a base model fresh from
disk, and compares its logits with those of the guarded model in memory. A job whose archive does
not reproduce the model fails.
"""

import hashlib
import shutil
from typing import Final

from peft import PeftModel
from safetensors.torch import load_file

from core.errors import JobFailedError
from core.job_state import JobErrorCode
from core.stages import ArtifactName, Stage
from worker.archive import extract_archive
from worker.pipeline.base_model import check_base_model
from worker.pipeline.probe import last_logits
from worker.trainer_tools import TrainerContext

NAME: Final = Stage.VERIFY_ARCHIVE
READS: Final = (ArtifactName.BASE_MODEL, ArtifactName.ARCHIVE, ArtifactName.PROBE_LOGITS)
WRITES: Final = (ArtifactName.ARCHIVE_CHECK,)

# The same weights through the same code differ by rounding only; a lost tensor or a wrong scaling
# changes logits by a tenth or more.
TOLERANCE: Final = 2e-3


def run(context: TrainerContext) -> None:
    """Write how far the archive is from the model in memory.

    Raises:
        JobFailedError: Too far.
    """
    check_base_model(context)
    workspace = context.workspace
    archive = workspace.artifact(ArtifactName.ARCHIVE)
    folder = workspace.root / "unpacked"
    extract_archive(archive, folder)
    saved = load_file(workspace.artifact(ArtifactName.PROBE_LOGITS))
    expected = saved.pop("logits")
    prompts = [saved[f"prompt_{index}"].tolist() for index in range(len(saved))]
    fresh = context.tools.base_models.fresh(context.entry)
    context.reporter.alive()
    model = PeftModel.from_pretrained(fresh.model, folder)
    model.train(mode=False)
    difference = float((last_logits(model, prompts) - expected).abs().max())
    shutil.rmtree(folder)
    limit = TOLERANCE * max(1.0, float(expected.abs().max()))
    if not difference <= limit:  # also when it is not a number
        raise JobFailedError(
            "The packaged adapter does not reproduce the evaluated model.",
            code=JobErrorCode.ARCHIVE_MISMATCH,
        )
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    workspace.write_json(
        ArtifactName.ARCHIVE_CHECK,
        {
            "archive_sha256": digest,
            "largest_logit_difference": difference,
            "limit": limit,
            "prompts": len(prompts),
        },
    )
