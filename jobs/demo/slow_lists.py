"""A WSGI filter that makes neutron's API slower, for the demo: the N+1 pattern, done on purpose.

Before a request on networks or ports is answered, the networks are looked up in the database one query
at a time, as code does that loads a relation item by item. It costs what such code costs: SQL
statements, CPU in neutron and in MariaDB, and the client's time.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from neutron_lib import context
from neutron_lib.db import api as db_api
from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

QUERIES = 25
_SLOWED = re.compile(r"^/v2\.0/(networks|ports)\b")
_LOOK_UP = text("SELECT id, name FROM networks WHERE id = :id")


class SlowLists:
    """Does the extra queries, then hands the request on."""

    def __init__(self, application: Application, queries: int) -> None:
        self._application = application
        self._queries = queries

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        if _SLOWED.match(environ.get("PATH_INFO", "")):
            self._look_up_one_by_one()
        return self._application(environ, start_response)

    def _look_up_one_by_one(self) -> None:
        admin = context.get_admin_context()
        with db_api.CONTEXT_READER.using(admin):
            for number in range(self._queries):
                admin.session.execute(_LOOK_UP, {"id": str(number)}).all()


def factory(_global: dict[str, str], **local: str) -> Callable[[Application], SlowLists]:
    """Return the filter, as paste.filter_factory wants it."""
    queries = int(local.get("queries", QUERIES))
    return lambda application: SlowLists(application, queries)
