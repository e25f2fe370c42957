import pickle

from defense.errors import DefenseError, InvalidConfigError


def test_every_error_has_its_own_code() -> None:
    codes = [error.code for error in DefenseError.__subclasses__()]

    assert len(codes) == len(set(codes))
    assert DefenseError.code not in codes


def test_a_config_error_survives_the_way_between_processes() -> None:
    error = InvalidConfigError("perturbation_radius", "must be greater than 0")

    copy = pickle.loads(pickle.dumps(error))  # noqa: S301

    assert isinstance(copy, InvalidConfigError)
    assert (copy.param, copy.message, str(copy)) == (error.param, error.message, str(error))


def test_a_config_error_is_also_a_value_error() -> None:
    assert issubclass(InvalidConfigError, ValueError)
