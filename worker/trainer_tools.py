"""What a trainer keeps between jobs: the device, the base model, the classifier."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import structlog

from core.job_spec import JobSpec
from core.model_registry import ModelEntry, ModelRegistry, read_models
from core.resources import resource_path
from defense.moderation.protocol import ModerationClassifier
from defense.moderation.registry import ClassifierSource
from defense.moderation.wording import WordingJudge, read_labelled_answers
from worker.base_models import BaseModels
from worker.classifier import open_classifier
from worker.device_meter import DeviceMeter
from worker.devices import choose_device, hold_device
from worker.options import TrainerOptions
from worker.pipeline.context import Reporter, StageContext
from worker.protocol import RunStage
from worker.workspace import Workspace

SECOND_JUDGE_ROWS: Final = "rows/moderation_train.jsonl"

_log = structlog.get_logger(__name__)


class TrainerTools:
    """Long-lived things of one trainer process.

    Args:
        options: The trainer's part of the operator's settings.
    """

    def __init__(self, options: TrainerOptions) -> None:
        self.options = options
        self.device = choose_device(options.device)
        self._device_lock = hold_device(self.device, options.home / "locks")
        self.meter = DeviceMeter(self.device)
        self.base_models = BaseModels(options.base_model_cache, self.device)
        self._registry = _read_registry(options.models_file)
        _log.info("trainer_tools_ready", device=str(self.device))

    @cached_property
    def classifier(self) -> ModerationClassifier:
        """The operator's moderation classifier, loaded at its first use."""
        return open_classifier(
            ClassifierSource(
                backend=self.options.moderation_backend,
                head_folder=resource_path("moderation"),
                model=self.options.moderation_model,
                device=str(self.device),
            )
        )

    @cached_property
    def second_judge(self) -> WordingJudge:
        """The judge that the first one's outcomes are compared with; it decides nothing."""
        lines = resource_path(SECOND_JUDGE_ROWS).read_text(encoding="utf-8").splitlines()
        return WordingJudge(read_labelled_answers(lines))

    def context_for(self, command: RunStage, reporter: Reporter) -> "TrainerContext":
        """Make the context of one stage."""
        spec = JobSpec.model_validate(command.spec)
        return TrainerContext(
            job_id=command.job_id,
            spec=spec,
            workspace=Workspace(Path(command.workspace), command.snapshot_step),
            reporter=reporter,
            tools=self,
            entry=self._registry.get(spec.model),
        )


@dataclass(frozen=True)
class TrainerContext(StageContext):
    """What a stage in the trainer may use.

    Attributes:
        tools: The device, the base models and the classifier.
        entry: The job's base model in the registry.
        pause_requested: Whether the stage is to save its state and stop.
        state_saved: Told that a state lies among the outputs, with the step behind which it is.
    """

    tools: TrainerTools
    entry: ModelEntry
    pause_requested: Callable[[], bool] = lambda: False
    state_saved: Callable[[int], None] = lambda _: None


def _read_registry(models_file: Path | None) -> ModelRegistry:
    entries = read_models(resource_path("models.toml"))
    if models_file is not None:
        entries |= read_models(models_file)
    return ModelRegistry(entries)
