"""What can go wrong while a model is measured. A measurement that is in doubt is an error."""

from typing import ClassVar

from defense.errors import DefenseError


class EvaluationError(DefenseError):
    """A measurement cannot be trusted: numbers not finite, or fewer answers than questions."""

    code: ClassVar[str] = "evaluation_failed"
