import os

import pytest

from core.embedded import account
from core.embedded.account import own_account, unprivileged_account

SETPCAP, DAC_READ_SEARCH, DAC_OVERRIDE = 1 << 8, 1 << 2, 1 << 1


def arguments_for(monkeypatch: pytest.MonkeyPatch, held: int) -> tuple[str, ...]:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(account, "_held_capabilities", lambda: held)
    return unprivileged_account().setpriv_arguments


def test_an_ordinary_user_runs_servers_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    chosen = unprivileged_account()

    assert chosen == own_account()
    assert chosen.setpriv_arguments == ()


def test_root_hands_over_to_nobody_with_the_weakest_capability(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = arguments_for(monkeypatch, SETPCAP | DAC_READ_SEARCH | DAC_OVERRIDE)

    assert "--reuid=65534" in arguments
    assert "--bounding-set=-all,+dac_read_search" in arguments
    assert "--ambient-caps=-all,+dac_read_search" in arguments


def test_root_in_a_plain_container_uses_the_capability_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = arguments_for(monkeypatch, SETPCAP | DAC_OVERRIDE)

    assert "--ambient-caps=-all,+dac_override" in arguments


@pytest.mark.parametrize("held", [0, DAC_READ_SEARCH, SETPCAP])
def test_root_without_such_a_capability_just_changes_user(
    monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    arguments = arguments_for(monkeypatch, held)

    assert arguments == ("--reuid=65534", "--regid=65534", "--clear-groups")
