"""SQL statements per MariaDB user, from information_schema.user_statistics (needs userstat=1).

Apart from sql_statements, because it needs PyMySQL: a node without a database has no use for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pymysql

_QUERY = (
    "SELECT USER, CAST(SELECT_COMMANDS + UPDATE_COMMANDS + OTHER_COMMANDS AS UNSIGNED)"
    " FROM information_schema.USER_STATISTICS"
)


class MariaDb:
    """Asks MariaDB; connects again after the connection was lost."""

    def __init__(self, address: str, user: str, password_file: str) -> None:
        """Take HOST:PORT; the password comes from a file, so that it is not in argv."""
        host, _, port = address.rpartition(":")
        password = Path(password_file).read_text(encoding="utf-8").strip()
        self._access: dict[str, Any] = {"host": host, "port": int(port), "user": user, "password": password}
        self._connection: Any = None

    def statements(self) -> dict[str, int]:
        """Return the counts since the server was started."""
        try:
            if self._connection is None:
                self._connection = pymysql.connect(
                    **self._access, connect_timeout=2, read_timeout=2, autocommit=True
                )
            with self._connection.cursor() as cursor:
                cursor.execute(_QUERY)
                return {str(user): int(count) for user, count in cursor.fetchall()}
        except (pymysql.MySQLError, OSError):
            self.close()
            return {}

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None and self._connection.open:
            self._connection.close()
        self._connection = None
