"""A clock that a test moves: everything in perfci that asks for the time gets the real one, some time later."""

from __future__ import annotations

import datetime as dt
import importlib
import pkgutil
import sys
from typing import Any

import perfci

_REAL = dt.datetime


class MovedClock:
    """Time goes on from the moment to which the clock was moved last. Other processes keep the real time."""

    def __init__(self, monkeypatch: Any, start: dt.datetime) -> None:
        # A module that were imported later would have the real clock.
        for module in pkgutil.walk_packages(perfci.__path__, "perfci."):
            if not module.name.endswith("__main__") and ".migrations" not in module.name:
                importlib.import_module(module.name)
        self._offset = dt.timedelta()
        self.move_to(start)
        clock = self

        class Kind(type):
            def __instancecheck__(cls, value: object) -> bool:
                return isinstance(value, _REAL)

        class Moved(_REAL, metaclass=Kind):
            @classmethod
            def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
                return _REAL.now(tz) + clock._offset

        for name, module in list(sys.modules.items()):
            if name.split(".")[0] == "perfci" and getattr(module, "datetime", None) is _REAL:
                monkeypatch.setattr(module, "datetime", Moved)

    def move_to(self, when: dt.datetime) -> None:
        """Let it be this time now."""
        self._offset = when - _REAL.now(dt.UTC)

    def now(self) -> dt.datetime:
        """Return the time by this clock."""
        return _REAL.now(dt.UTC) + self._offset
