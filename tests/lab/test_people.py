"""Who somebody is."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

from perfci.lab import people

if TYPE_CHECKING:
    import pytest


def test_nobody_is_who_they_say_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert people.me() == pwd.getpwuid(os.getuid()).pw_name


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    assert people.me() == "uid-4000000000"
