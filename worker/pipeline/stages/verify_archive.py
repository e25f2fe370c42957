"""Stage `verify_archive`: use the archive as somebody who downloaded it would.

Unpacks the archive as storage holds it, loads it with plain `peft` on a base model fresh from
disk, and compares its logits with those of the guarded model in memory. A job whose archive does
not reproduce the model fails.

If they differ, that may be no fault of the archive: two workers need not round alike, even with
equal processors, since the number of threads and the versions of libraries decide as well. So the
guarded model is then made once more on this worker, from the same checked files as before, and the
archive fails only if it differs from that too.
"""

import hashlib
import math
import shutil
import tarfile
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import structlog
from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from core.errors import JobFailedError, is_disk_fault
from core.job_state import JobErrorCode
from core.stages import ArtifactName, Stage
from defense.training.adapter_files import WEIGHTS_NAME
from worker.archive import UnsafeArchiveError, extract_archive
from worker.errors import is_out_of_memory
from worker.pipeline.adapted_model import adapted_model, guarded_tensors, lora_settings
from worker.pipeline.base_model import check_base_model, recorded_base_model
from worker.pipeline.probe import Probe, take_probe
from worker.trainer_tools import TrainerContext

NAME: Final = Stage.VERIFY_ARCHIVE
READS: Final = (
    ArtifactName.BASE_MODEL,
    ArtifactName.TRAINED_ADAPTER,
    ArtifactName.PERTURBATION,
    ArtifactName.STRENGTH,
    ArtifactName.ARCHIVE,
    ArtifactName.PROBE_LOGITS,
)
WRITES: Final = (ArtifactName.ARCHIVE_CHECK,)

# Relative to the largest logit, but at least to 1. With the model computed again on this worker,
# nothing is left to round differently: on a random two-layer Llama with logits up to 0.6, an
# untouched archive differs by exactly 0 in float32 and in bfloat16 alike. There an adapter with a
# perturbation of strength 0.7 that is a tenth too strong or too weak differs by 3e-3 or more, and
# one that is a hundredth off by 3e-4. In bfloat16 this asks for equal logits: their spacing is
# wider.
TOLERANCE: Final = 2e-4

# What reading a damaged archive, configuration or weights file raises; RuntimeError is torch's word
# for tensors of another shape.
_UNREADABLE: Final = (
    UnsafeArchiveError,
    tarfile.TarError,
    SafetensorError,
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Comparison:
    """How far the archive's logits are from those of the guarded model.

    Attributes:
        reference: Where the guarded model's logits come from.
    """

    reference: Literal["packaged", "computed again"]
    largest_logit_difference: float
    limit: float

    @property
    def agrees(self) -> bool:
        """Whether they are close enough; infinite logits, or such as are no numbers, never are."""
        return self.largest_logit_difference <= self.limit < math.inf


def run(context: TrainerContext) -> None:
    """Write how far the archive is from the model in memory.

    Raises:
        JobFailedError: Too far, or the archive holds no adapter for this model.
    """
    check_base_model(context)
    workspace = context.workspace
    archive = workspace.artifact(ArtifactName.ARCHIVE)
    packaged = Probe.read(workspace.artifact(ArtifactName.PROBE_LOGITS))
    found = take_probe(_load(context, archive), packaged.prompts)
    comparison = _compare(found, packaged, "packaged")
    if not comparison.agrees:
        _log.info("probe_computed_again", **asdict(comparison))
        comparison = _compare(found, _probe_again(context, packaged.prompts), "computed again")
    if not comparison.agrees:
        _log.error("archive_mismatch", **asdict(comparison))
        raise _mismatch()
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    workspace.write_json(
        ArtifactName.ARCHIVE_CHECK,
        {"archive_sha256": digest, "prompts": len(packaged.prompts), **asdict(comparison)},
    )


def _compare(
    found: Probe, expected: Probe, reference: Literal["packaged", "computed again"]
) -> _Comparison:
    difference = float((found.logits - expected.logits).abs().max())
    limit = TOLERANCE * max(1.0, float(expected.logits.abs().max()))
    return _Comparison(reference, difference, limit)


def _probe_again(context: TrainerContext, prompts: list[list[int]]) -> Probe:
    """Ask the guarded model as `package` had it in memory, but on this worker."""
    loaded = recorded_base_model(context)
    settings = lora_settings(context.spec)
    with adapted_model(loaded, settings, tensors=guarded_tensors(context.workspace)) as model:
        return take_probe(model, prompts)


def _load(context: TrainerContext, archive: Path) -> PeftModel:
    """Load the archive onto a base model that nothing has touched."""
    fresh = context.tools.base_models.fresh(context.entry)
    context.reporter.alive()
    folder = context.workspace.root / "unpacked"
    try:
        extract_archive(archive, folder)
        with warnings.catch_warnings():
            # The names are compared below: to PEFT, a tensor that is not there is worth a warning.
            warnings.filterwarnings("ignore", "Found missing adapter keys")
            model = PeftModel.from_pretrained(fresh.model, folder)
        wanted = get_peft_model_state_dict(model, save_embedding_layers=False).keys()
        complete = wanted == load_file(folder / WEIGHTS_NAME).keys()
    except _UNREADABLE as error:
        if is_disk_fault(error) or is_out_of_memory(error):
            raise
        _log.exception("archive_unreadable")
        raise _mismatch() from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not complete:
        _log.error("archive_mismatch", reason="tensors are missing, or too many")
        raise _mismatch()
    model.train(mode=False)
    return model


def _mismatch() -> JobFailedError:
    return JobFailedError(
        "The packaged adapter does not reproduce the evaluated model.",
        code=JobErrorCode.ARCHIVE_MISMATCH,
    )
