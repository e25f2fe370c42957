"""The defenses a job can name: their titles, options and JSON schemas. Imports no torch.

The methods of the alignment stage are the operator's: see `defense.alignment_catalog`.

A job names one method, and a fine-tuning method may be followed by a post-fine-tuning one: see
`defense.job_defense`. To add one, write its folder (see `defense/README.md`) and add a row to
`DEFENSES`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from defense.config import DefenseConfig, Ending, FineTuningConfig
from defense.fine_tuning.ewc.config import EwcConfig
from defense.fine_tuning.ldifs.config import LdifsConfig
from defense.fine_tuning.lisa.config import LisaConfig
from defense.fine_tuning.panacea.config import PanaceaConfig
from defense.fine_tuning.safety_mixing.config import SafetyMixingConfig
from defense.fine_tuning.supervised.config import SupervisedConfig
from defense.post_fine_tuning.alignment_merge.config import AlignmentMergeConfig
from defense.post_fine_tuning.antidote.config import AntidoteConfig
from defense.post_fine_tuning.panacea_endpoint.config import PanaceaEndpointConfig
from defense.post_fine_tuning.random_perturbation.config import RandomPerturbationConfig
from defense.post_fine_tuning.refusal_restoration.config import RefusalRestorationConfig
from defense.post_fine_tuning.safe_delta.config import SafeDeltaConfig
from defense.post_fine_tuning.safe_lora.config import SafeLoraConfig


class DefenseStage(StrEnum):
    """Where in a model's life a defense acts (the three stages of arXiv:2409.18169)."""

    ALIGNMENT = "alignment"  # before the user's rows are seen
    FINE_TUNING = "fine_tuning"  # while they are learned
    POST_FINE_TUNING = "post_fine_tuning"  # on the finished weights


@dataclass(frozen=True)
class CatalogueEntry:
    """One method of any stage.

    Attributes:
        name: Value of `type` in its options.
        stage: Where it acts.
        title: Name to show to people.
        summary: One or two sentences: what it does and what it costs.
        paper: Identifier of the publication, or nothing for a method without one.
        config_class: Its options.
        data_needed: Row sets the operator must provide, by their glossary names.
        composition: Which other methods of the catalogue it goes with, and what that does.
    """

    name: str
    stage: DefenseStage
    title: str
    summary: str
    paper: str | None
    config_class: type[DefenseConfig]
    data_needed: tuple[str, ...]
    composition: str


@dataclass(frozen=True)
class DefenseEntry(CatalogueEntry):
    """One method that a job can name."""

    config_class: type[FineTuningConfig] | type[Ending]


_AFTER_ANY = "Alone, after plain fine-tuning, or as `post_fine_tuning` of a fine-tuning method."
_BEFORE_ANY = "Alone, or with any post-fine-tuning method as its `post_fine_tuning`."

DEFENSES: Mapping[str, DefenseEntry] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            DefenseEntry(
                name="none",
                stage=DefenseStage.FINE_TUNING,
                title="No defense",
                summary=(
                    "Plain supervised fine-tuning. The gate still judges the adapter, so a job "
                    "with harmful rows will usually be blocked."
                ),
                paper=None,
                config_class=SupervisedConfig,
                data_needed=(),
                composition="With any post-fine-tuning method, which is then named by itself.",
            ),
            DefenseEntry(
                name="panacea",
                stage=DefenseStage.FINE_TUNING,
                title="Panacea",
                summary=(
                    "Keeps the loss of harmful answers steep while the user's rows are learned, "
                    "then adds one perturbation up that loss to the trained adapter. Its strength "
                    "is chosen on held-out rows."
                ),
                paper="arXiv:2501.18100",
                config_class=PanaceaConfig,
                data_needed=("harmful_dataset",),
                composition=(
                    "Alone; or with any post-fine-tuning method as its `post_fine_tuning`, which "
                    "then takes the place of Panacea's own perturbation."
                ),
            ),
            DefenseEntry(
                name="safety_mixing",
                stage=DefenseStage.FINE_TUNING,
                title="Safety mixing",
                summary=(
                    "Learns the operator's refusals, and benign rows with them, beside the user's "
                    "rows. Costs a small batch more at every few steps."
                ),
                paper="arXiv:2402.02207",
                config_class=SafetyMixingConfig,
                data_needed=("alignment_dataset", "benign_dataset"),
                composition=_BEFORE_ANY,
            ),
            DefenseEntry(
                name="lisa",
                stage=DefenseStage.FINE_TUNING,
                title="Lisa",
                summary=(
                    "Learns the operator's refusals and the user's rows in turns of a few steps, "
                    "each pulled towards the weights it began with."
                ),
                paper="arXiv:2405.18641",
                config_class=LisaConfig,
                data_needed=("alignment_dataset",),
                composition=_BEFORE_ANY,
            ),
            DefenseEntry(
                name="ewc",
                stage=DefenseStage.FINE_TUNING,
                title="Elastic weight consolidation",
                summary=(
                    "Holds the weights that the operator's refusals rest on near the aligned "
                    "adapter while the user's rows are learned. Reads rows once, before training."
                ),
                paper="arXiv:1612.00796",
                config_class=EwcConfig,
                data_needed=("alignment_dataset",),
                composition=_BEFORE_ANY,
            ),
            DefenseEntry(
                name="ldifs",
                stage=DefenseStage.FINE_TUNING,
                title="LDIFS",
                summary=(
                    "Keeps the outputs of every layer on the user's rows near those of the model "
                    "that training began with. Costs a second pass over a batch at each step, and "
                    "slows the user's learning down."
                ),
                paper="arXiv:2308.13320",
                config_class=LdifsConfig,
                data_needed=(),
                composition=_BEFORE_ANY,
            ),
            DefenseEntry(
                name="panacea_endpoint",
                stage=DefenseStage.POST_FINE_TUNING,
                title="Panacea's last move",
                summary=(
                    "Moves the trained adapter up the loss of the defender's harmful answers, as "
                    "Panacea does at its end, without its training. Once strong enough to matter "
                    "it tends to break the model."
                ),
                paper="arXiv:2501.18100",
                config_class=PanaceaEndpointConfig,
                data_needed=("harmful_dataset",),
                composition=_AFTER_ANY,
            ),
            DefenseEntry(
                name="alignment_merge",
                stage=DefenseStage.POST_FINE_TUNING,
                title="Alignment merge",
                summary=(
                    "Merges the trained adapter with the one it began as, so that each layer "
                    "answers the operator's rows as before the training and the user's as after "
                    "it. Three passes forward over 96 rows; no training, no search."
                ),
                paper="arXiv:2212.09849",
                config_class=AlignmentMergeConfig,
                data_needed=("alignment_dataset", "benign_dataset"),
                composition=_AFTER_ANY,
            ),
            DefenseEntry(
                name="refusal_restoration",
                stage=DefenseStage.POST_FINE_TUNING,
                title="Refusal restoration",
                summary=(
                    "Moves the trained adapter down the loss of the operator's refusals, without "
                    "what would raise the loss of the user's task or of benign rows. Its strength "
                    "is chosen on held-out rows."
                ),
                paper=None,
                config_class=RefusalRestorationConfig,
                data_needed=("alignment_dataset", "benign_dataset"),
                composition=_AFTER_ANY,
            ),
            DefenseEntry(
                name="random_perturbation",
                stage=DefenseStage.POST_FINE_TUNING,
                title="Random perturbation",
                summary=(
                    "Adds normal noise to every weight of the trained adapter. A control for "
                    "moves that know where to go: it hardly defends, and then by breaking things."
                ),
                paper="arXiv:2501.18100",
                config_class=RandomPerturbationConfig,
                data_needed=(),
                composition=_AFTER_ANY,
            ),
            DefenseEntry(
                name="antidote",
                stage=DefenseStage.POST_FINE_TUNING,
                title="Antidote",
                summary=(
                    "Scores every weight of the trained adapter by what its change does on harmful "
                    "answers, and takes the change of the highest scores back. No training."
                ),
                paper="arXiv:2408.09600",
                config_class=AntidoteConfig,
                data_needed=("harmful_dataset",),
                composition=_AFTER_ANY,
            ),
            DefenseEntry(
                name="safe_lora",
                stage=DefenseStage.POST_FINE_TUNING,
                title="Safe LoRA",
                summary=(
                    "Keeps of each layer's change only what lies along the base model's alignment, "
                    "in layers where the change strays from it. Reads no rows; needs an aligned "
                    "adapter."
                ),
                paper="arXiv:2405.16833",
                config_class=SafeLoraConfig,
                data_needed=(),
                composition=_AFTER_ANY,
            ),
            DefenseEntry(
                name="safe_delta",
                stage=DefenseStage.POST_FINE_TUNING,
                title="Safe Delta",
                summary=(
                    "Accepts of each layer's change what costs the operator's refusals least, up "
                    "to a budget, and adjusts the rest to make up for it. No training."
                ),
                paper="arXiv:2505.12038",
                config_class=SafeDeltaConfig,
                data_needed=("alignment_dataset",),
                composition=_AFTER_ANY,
            ),
        )
    }
)


# Names of what may follow a fine-tuning method.
FOLLOWING: Final = tuple(
    name for name, entry in DEFENSES.items() if entry.stage is DefenseStage.POST_FINE_TUNING
)


def schema_of(config_class: type[DefenseConfig]) -> dict[str, object]:
    """JSON schema of a defense's options."""
    return config_class.model_json_schema()
