"""The alembic environment of each service, set up by the service's own code from its own configuration."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType


@dataclass(frozen=True)
class Service:
    """How one database is migrated: its alembic environment, and the data migrations that follow, if any.

    `online` returns 0 where all was migrated.
    """

    name: str
    alembic: Config
    online: Callable[[], int] | None = None


def keystone(files: Sequence[str]) -> Service:
    """Set keystone up."""
    conf = importlib.import_module("keystone.conf")
    upgrades = importlib.import_module("keystone.common.sql.upgrades")
    conf.configure()
    importlib.import_module("keystone.common.sql").initialize()
    conf.CONF([], project="keystone", default_config_files=list(files))
    return Service("keystone", upgrades.get_alembic_config())


def placement(files: Sequence[str]) -> Service:
    """Set placement up."""
    cfg = importlib.import_module("oslo_config.cfg")
    conf, db_api, manage, migration = (
        importlib.import_module(name)
        for name in (
            "placement.conf",
            "placement.db_api",
            "placement.cmd.manage",
            "placement.db.sqlalchemy.migration",
        )
    )
    options = cfg.ConfigOpts()
    conf.register_opts(options)
    options.register_cli_opts(manage.setup_commands(options))
    options(["db", "online_data_migrations"], project="placement", default_config_files=list(files))
    db_api.configure(options)
    return Service(
        "placement",
        Config(_beside(migration, "alembic.ini")),
        manage.DbCommands(options).db_online_data_migrations,
    )


def glance(files: Sequence[str]) -> Service:
    """Set glance up, to migrate with all services down: without triggers."""
    config = importlib.import_module("glance.common.config")
    manage: Any = importlib.import_module("glance.cmd.manage")
    migrations = importlib.import_module("glance.db.sqlalchemy.alembic_migrations")
    config.parse_args(args=[], default_config_files=list(files))
    manage.USE_TRIGGERS = False
    return Service("glance", migrations.get_alembic_config())


def neutron(files: Sequence[str]) -> Service:
    """Set neutron up."""
    common = importlib.import_module("neutron.common.config")
    cli = importlib.import_module("neutron.db.migration.cli")
    common.register_common_config_options()
    given = [word for file in files for word in ("--config-file", file)]
    cli.CONF([*given, "current"], project="neutron")
    return Service("neutron", cli.get_neutron_config())


def nova_api(files: Sequence[str]) -> Service:
    """Set nova up for its API's database."""
    return _nova(files, "api")


def nova_cell1(files: Sequence[str]) -> Service:
    """Set nova up for the database of a cell, whose data migrations are those of all of nova."""
    service = _nova(files, "main")
    manage = importlib.import_module("nova.cmd.manage")
    importlib.import_module("nova.objects").register_all()
    return Service(service.name, service.alembic, manage.DbCommands().online_data_migrations)


def _beside(module: ModuleType, name: str) -> str:
    """Return the path of a file beside a module, as alembic takes it."""
    return str(Path(str(module.__file__)).parent / name)


def _nova(files: Sequence[str], database: str) -> Service:
    config = importlib.import_module("nova.config")
    conf = importlib.import_module("nova.conf").CONF
    migration = importlib.import_module("nova.db.migration")
    given = [word for file in files for word in ("--config-file", file)]
    config.parse_args([sys.argv[0], *given])
    alembic = Config(_beside(migration, f"{database}/alembic.ini"))
    alembic.attributes["configure_logger"] = False
    url: Any = (conf.api_database if database == "api" else conf.database).connection
    alembic.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return Service("nova", alembic)


SERVICES: dict[str, Callable[[Sequence[str]], Service]] = {
    "keystone": keystone,
    "placement": placement,
    "glance": glance,
    "nova_api": nova_api,
    "nova_cell1": nova_cell1,
    "neutron": neutron,
}
"""By database."""
