"""SQL statements per database user: where they come from, and sums that never decrease."""

from __future__ import annotations

from typing import Protocol


class Source(Protocol):
    """Anything that tells how many statements each user has made since the server was started."""

    def statements(self) -> dict[str, int]:
        """Return the counts, empty while the server can't be asked."""
        ...


class NoDatabase:
    """For a node without a database."""

    def statements(self) -> dict[str, int]:
        """Return nothing."""
        return {}


class Rising:
    """Makes counts that never decrease out of counts that start anew with the server."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._total: dict[str, int] = {}

    def update(self, counts: dict[str, int]) -> dict[str, int]:
        """Return totals for the users in `counts`."""
        for user, count in counts.items():
            last = self._last.get(user, 0)
            self._total[user] = self._total.get(user, 0) + (count - last if count >= last else count)
            self._last[user] = count
        return {user: self._total[user] for user in counts}
