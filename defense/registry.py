"""From a job's defense options to the code that carries them out.

The worker asks for a method once per job and never looks at a defense's name: it hands the
method's guard to the training loop and then asks the method for a perturbation. A method without
the one or the other answers None.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from peft import PeftModel

from defense.catalog import JobDefense
from defense.fine_tuning.panacea.config import PanaceaConfig
from defense.fine_tuning.panacea.method import PanaceaGuard
from defense.fine_tuning.panacea.perturbation import ReferenceRows, build_perturbation
from defense.protocols import EncodedRow, Guard, Perturbation, PerturbationStep, Tensors
from defense.training.loss import AdapterLoss


@dataclass(frozen=True)
class DefenderRows:
    """The operator's rows, encoded. Rows held out for choosing the strength are not among them.

    Attributes:
        refusals: Harmful prompts with refusals.
        harmful: Harmful prompts with harmful answers.
        benign: General helpful answers, and those to harmless look-alikes.
    """

    refusals: Sequence[EncodedRow]
    harmful: Sequence[EncodedRow]
    benign: Sequence[EncodedRow]


class DefenseMethod(Protocol):
    """A defense prepared for one job."""

    def guard(self) -> Guard | None:
        """What the training loop asks at every optimizer step."""

    def last_probe(self) -> Tensors | None:
        """State of the guard that `perturbation` will need; to be stored with the adapter."""

    def perturbation(
        self,
        model: PeftModel,
        pad_token_id: int,
        task_rows: Sequence[EncodedRow],
        *,
        last_probe: Tensors | None = None,
        on_step: Callable[[PerturbationStep], None] | None = None,
    ) -> Perturbation | None:
        """The move to offer after training; the model holds the trained adapter, unchanged."""


class Undefended:
    """Plain fine-tuning."""

    def guard(self) -> Guard | None:
        """No guard."""
        return None

    def last_probe(self) -> Tensors | None:
        """No state."""
        return None

    def perturbation(
        self,
        model: PeftModel,  # noqa: ARG002
        pad_token_id: int,  # noqa: ARG002
        task_rows: Sequence[EncodedRow],  # noqa: ARG002
        *,
        last_probe: Tensors | None = None,  # noqa: ARG002
        on_step: Callable[[PerturbationStep], None] | None = None,  # noqa: ARG002
    ) -> Perturbation | None:
        """No perturbation."""
        return None


class Panacea:
    """Panacea, with one guard for one training run."""

    def __init__(self, config: PanaceaConfig, rows: DefenderRows, seed: int) -> None:
        self._config = config
        self._rows = rows
        self._seed = seed
        self._guard: PanaceaGuard | None = None

    def guard(self) -> PanaceaGuard | None:
        """The guard; always the same one."""
        if self._guard is None and self._config.regularization_strength > 0:
            self._guard = PanaceaGuard(self._config, self._rows.harmful, self._seed)
        return self._guard

    def last_probe(self) -> Tensors | None:
        """The last guarded step's probe, if the published final perturbation was asked for."""
        return None if self._guard is None else self._guard.last_probe

    def perturbation(
        self,
        model: PeftModel,
        pad_token_id: int,
        task_rows: Sequence[EncodedRow],
        *,
        last_probe: Tensors | None = None,
        on_step: Callable[[PerturbationStep], None] | None = None,
    ) -> Perturbation:
        """The final perturbation.

        Args:
            model: Holds the trained adapter; put into evaluation mode, otherwise unchanged.
            pad_token_id: Token to pad with.
            task_rows: The user's rows.
            last_probe: What `last_probe()` gave after training, if this is another process.
            on_step: Told about every step; may raise to stop.
        """
        model.eval()
        rows = ReferenceRows(
            harmful=self._rows.harmful,
            refusals=self._rows.refusals,
            task=task_rows,
            benign=self._rows.benign,
        )
        return build_perturbation(
            AdapterLoss(model, pad_token_id),
            self._config,
            rows,
            self._seed,
            last_probe=last_probe if last_probe is not None else self.last_probe(),
            on_step=on_step,
        )


def build_method(config: JobDefense, rows: DefenderRows, seed: int) -> DefenseMethod:
    """Prepare the defense that a job asked for.

    Args:
        config: Options, as `defense.catalog.parse_defense` returned them.
        rows: The operator's rows.
        seed: The job's.
    """
    if isinstance(config, PanaceaConfig):
        return Panacea(config, rows, seed)
    return Undefended()
