"""From a job's defense options to the code that carries them out.

The worker asks for a method once per job and never looks at a defense's name: it hands the method's
guard to the training loop and then asks the method for a perturbation. A defense without the one or
the other answers None.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from defense.config import Ending, FineTuningConfig
from defense.fine_tuning.ewc.config import EwcConfig
from defense.fine_tuning.ewc.method import build_guard as consolidate
from defense.fine_tuning.ldifs.config import LdifsConfig
from defense.fine_tuning.ldifs.method import build_guard as guard_ldifs
from defense.fine_tuning.lisa.config import LisaConfig
from defense.fine_tuning.lisa.method import build_guard as take_turns
from defense.fine_tuning.panacea.config import PanaceaConfig
from defense.fine_tuning.panacea.ending import build_ending as end_panacea
from defense.fine_tuning.panacea.method import build_guard as guard_panacea
from defense.fine_tuning.safety_mixing.config import SafetyMixingConfig
from defense.fine_tuning.safety_mixing.method import build_guard as mix_refusals_in
from defense.job_defense import JobDefense
from defense.ops.adapted_layers import adapted_layers, require_alignment
from defense.post_fine_tuning.alignment_merge.config import AlignmentMergeConfig
from defense.post_fine_tuning.alignment_merge.method import build_ending as merge_alignment
from defense.post_fine_tuning.antidote.config import AntidoteConfig
from defense.post_fine_tuning.antidote.method import build_ending as prune_harm
from defense.post_fine_tuning.panacea_endpoint.config import PanaceaEndpointConfig
from defense.post_fine_tuning.panacea_endpoint.method import build_ending as end_at_panaceas
from defense.post_fine_tuning.random_perturbation.config import RandomPerturbationConfig
from defense.post_fine_tuning.random_perturbation.method import build_ending as add_noise
from defense.post_fine_tuning.refusal_restoration.config import RefusalRestorationConfig
from defense.post_fine_tuning.refusal_restoration.method import build_ending as restore_refusals
from defense.post_fine_tuning.safe_delta.config import SafeDeltaConfig
from defense.post_fine_tuning.safe_delta.method import build_ending as accept_within_budget
from defense.post_fine_tuning.safe_lora.config import SafeLoraConfig
from defense.post_fine_tuning.safe_lora.method import build_ending as project_onto_alignment
from defense.protocols import DefenderRows, Guard, Perturbation, Tensors, Trained, Training
from defense.training.lora import adapter_state

# Each takes its own class of options, then rows, what it acts on, and the job's seed.
_GUARDS: Mapping[type[FineTuningConfig], Callable[[Any, DefenderRows, Training, int], Guard | None]]
_GUARDS = MappingProxyType(
    {
        EwcConfig: consolidate,
        LdifsConfig: guard_ldifs,
        LisaConfig: take_turns,
        PanaceaConfig: guard_panacea,
        SafetyMixingConfig: mix_refusals_in,
    }
)
_ENDINGS: Mapping[type[Ending], Callable[[Any, DefenderRows, Trained, int], Perturbation]]
_ENDINGS = MappingProxyType(
    {
        PanaceaConfig: end_panacea,
        PanaceaEndpointConfig: end_at_panaceas,
        AlignmentMergeConfig: merge_alignment,
        RefusalRestorationConfig: restore_refusals,
        RandomPerturbationConfig: add_noise,
        AntidoteConfig: prune_harm,
        SafeLoraConfig: project_onto_alignment,
        SafeDeltaConfig: accept_within_budget,
    }
)


class DefenseMethod:
    """A job's defense with the operator's rows, for one training run.

    Args:
        defense: Options, as `defense.job_defense.parse_defense` returned them.
        rows: The operator's rows.
        seed: The job's.
    """

    def __init__(self, defense: JobDefense, rows: DefenderRows, seed: int) -> None:
        self._defense = defense
        self._rows = rows
        self._seed = seed
        self._guard: Guard | None = None

    def guard(self, training: Training) -> Guard | None:
        """Make what the training loop asks at every optimizer step; None if nothing is asked.

        Raises:
            InvalidConfigError: The ending will need an alignment that the adapter does not have.
            NoSupervisedTokensError: The operator's rows that it needs have nothing to learn from.
        """
        ending = self._defense.ending
        if ending is not None and ending.needs_alignment:
            # Now, not when the training is done.
            require_alignment(adapted_layers(training.model), adapter_state(training.model))
        build = _GUARDS.get(type(self._defense.fine_tuning))
        if build is not None:
            self._guard = build(self._defense.fine_tuning, self._rows, training, self._seed)
        return self._guard

    def last_probe(self) -> Tensors | None:
        """State of the guard that `perturbation` will need; to be stored with the adapter."""
        return None if self._guard is None else self._guard.last_probe

    def perturbation(self, trained: Trained) -> Perturbation | None:
        """Compute the move to offer after training; None if the defense makes none.

        Args:
            trained: The trained adapter; its model is left unchanged.

        Raises:
            InvalidConfigError: The ending needs what training did not give.
            NoSupervisedTokensError: The operator's rows that it needs have nothing to learn from.
            NumericalDivergenceError: A loss or gradient is not finite.
        """
        ending = self._defense.ending
        return (
            None
            if ending is None
            else _ENDINGS[type(ending)](ending, self._rows, trained, self._seed)
        )
