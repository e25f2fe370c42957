"""What a report may hold beyond the usual, if it is asked for."""

from enum import StrEnum


class Analysis(StrEnum):
    """A part of the report that costs extra time; there is none yet."""
