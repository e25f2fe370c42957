"""The defense of a job, read from what a request says. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError

from defense.catalog import DEFENSES, DefenseStage
from defense.config import DefenseConfig, Ending, FineTuningConfig, SearchedStrength
from defense.errors import InvalidConfigError
from defense.fine_tuning.supervised.config import SupervisedConfig

FOLLOWED_BY: Final = "post_fine_tuning"
DEFAULT_DEFENSE: Final[Mapping[str, Any]] = MappingProxyType({"type": "alignment_merge"})


@dataclass(frozen=True)
class JobDefense:
    """The defense of one job, its options resolved.

    Attributes:
        fine_tuning: What acts while the user's rows are learned.
        followed_by: What then moves the trained adapter; it takes the place of an ending that
            `fine_tuning` would bring itself.
    """

    fine_tuning: FineTuningConfig
    followed_by: Ending | None = None

    @property
    def ending(self) -> Ending | None:
        """What moves the trained adapter; None leaves it as it is."""
        if self.followed_by is None and isinstance(self.fine_tuning, Ending):
            return self.fine_tuning
        return self.followed_by

    @property
    def searched(self) -> SearchedStrength | None:
        """The ending, if its strength is chosen after it was built."""
        return self.ending if isinstance(self.ending, SearchedStrength) else None

    def dump(self) -> dict[str, Any]:
        """Give what `parse_defense` reads as this defense, every default filled in."""
        if self.followed_by is None:
            return _dumped(self.fine_tuning)
        if isinstance(self.fine_tuning, SupervisedConfig):
            return _dumped(self.followed_by)
        return {**_dumped(self.fine_tuning), FOLLOWED_BY: _dumped(self.followed_by)}


def parse_defense(raw: Mapping[str, object]) -> JobDefense:
    """Validate a request's `defense` object.

    Args:
        raw: The object as it came over the wire: a method's name as `type`, and its options. A
            fine-tuning method may carry another such object as `post_fine_tuning`.

    Returns:
        The options, defaults filled in.

    Raises:
        InvalidConfigError: Unknown defense, unknown option, a value out of range, or methods that
            do not go together; its `param` is the option's place inside `raw`.
    """
    options = {name: value for name, value in raw.items() if name != FOLLOWED_BY}
    config = _parse_one(options)
    following = raw.get(FOLLOWED_BY)
    if isinstance(config, FineTuningConfig):
        return JobDefense(config, None if following is None else _parse_following(following))
    if following is not None:
        raise InvalidConfigError(
            FOLLOWED_BY, f"goes with a fine-tuning method only; {raw['type']!r} is none"
        )
    return JobDefense(SupervisedConfig(), config)


def _parse_one(
    raw: Mapping[str, object], stages: frozenset[DefenseStage] = frozenset(DefenseStage)
) -> FineTuningConfig | Ending:
    name = raw.get("type")
    entry = DEFENSES.get(name) if isinstance(name, str) else None
    if entry is None or entry.stage not in stages:
        known = ", ".join(repr(each.name) for each in DEFENSES.values() if each.stage in stages)
        raise InvalidConfigError("type", f"must be one of {known}; got {name!r}")
    try:
        return entry.config_class.model_validate(dict(raw))
    except ValidationError as error:
        raise first_problem(error) from error


def _parse_following(raw: object) -> Ending:
    if not isinstance(raw, Mapping):
        raise InvalidConfigError(FOLLOWED_BY, f"must be an object; got {raw!r}")
    try:
        config = _parse_one(raw, frozenset({DefenseStage.POST_FINE_TUNING}))
    except InvalidConfigError as error:
        raise InvalidConfigError(f"{FOLLOWED_BY}.{error.param}", error.message) from error
    assert isinstance(config, Ending), "what the catalogue says of its stage"  # noqa: S101
    return config


def _dumped(config: DefenseConfig) -> dict[str, Any]:
    dumped = config.model_dump(mode="json")
    return {"type": dumped.pop("type"), **dumped}


def first_problem(error: ValidationError) -> InvalidConfigError:
    """Say what is wrong with options, by the name of the first that is."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    message = problem["msg"].removeprefix("Value error, ")
    if problem["loc"]:
        # Options are flat: what follows the first part names a member of a union, not a field.
        return InvalidConfigError(str(problem["loc"][0]), message)
    # What concerns several options begins with the name of one.
    option, _, rest = message.partition(" ")
    return InvalidConfigError(option, rest)
