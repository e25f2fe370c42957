"""What a report may hold beyond the usual, if it is asked for."""

from enum import StrEnum


class Analysis(StrEnum):
    """A part of the report that costs extra time."""

    LAYER_ABLATION = "layer_ablation"  # what each layer's part of the perturbation does
    TAMPER_CURVE = "tamper_curve"  # how many harmful steps undo the adapter's refusals
