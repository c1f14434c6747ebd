"""Migrations of the database by Alembic. Loaded only where there is something to migrate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

if TYPE_CHECKING:
    import sqlalchemy as sa

_SCRIPTS = "perfci:database/migrations"


def upgrade(connection: sa.Connection) -> None:
    """Bring the tables to the newest revision, inside the transaction of this connection."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if broken is not None:
            msg = f"a migration broke a foreign key of table {broken[0]}"
            raise RuntimeError(msg)


def knows(revision: str) -> bool:
    """Tell whether this perfci has the migration to a revision."""
    return any(script.revision == revision for script in scripts().walk_revisions())


def scripts() -> ScriptDirectory:
    """Return the migrations of this perfci."""
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", _SCRIPTS)
    return config
