"""Every setting once, typed, with its unit: from `perfci.toml` and from the environment.

The environment wins over the file: `PERFCI_STATE_DIR`, `PERFCI_MAIL__TRANSPORT`,
`PERFCI_MAIL__SMTP__HOST`; lists are written as JSON there. Secrets are never in the file: they come
from the environment or from a file that a setting names, and are never shown.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from perfci import names  # noqa: TC001 - pydantic reads annotations
from perfci.errors import UsageError
from perfci.validation import MAIL_DOMAIN, Address, Fault, faults, nearest, place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic_settings import PydanticBaseSettingsSource

FILE_NAME = "perfci.toml"
PREFIX = "PERFCI_"
NO_SETTINGS = frozenset(
    {
        "PERFCI_CONFIG",
        # Marks on the processes that perfci starts, which they hand on.
        "PERFCI_RUN",
        "PERFCI_SERVICE",
        # What `perfci lab env` and `lab run` tell a shell, from which more of perfci is called.
        "PERFCI_ENTER",
        "PERFCI_NODES",
        "PERFCI_OPENRC",
        "PERFCI_RESERVATION",
        "PERFCI_SSH_CONFIG",
        # Of the tests and benchmarks.
        "PERFCI_DETECTOR_HARNESS",
        "PERFCI_TESTS_COMPLETE",
        "PERFCI_WRITE_HELP",
    }
)
"""Variables that begin as settings do and are none."""
MASK = "********"
_INFLUX_OFFSET = 86
"""Where the embedded lab's own InfluxDB listens, above `port_base`."""

_RENAMED = {"ledger": "it is called database now, with the same settings: rename it"}
"""Advice for each section that an earlier release knew by another name."""

Seconds = Annotated[float, Field(gt=0, le=86400)]
Hours = Annotated[float, Field(gt=0, le=720)]
Share = Annotated[float, Field(ge=0, le=1)]
Port = Annotated[int, Field(ge=1, le=65535)]


def _without_password(url: str) -> str:
    """Refuse a password in a URL, where it would be shown; the message does not repeat it."""
    if "@" in url.partition("://")[2].partition("/")[0]:
        msg = "a user name or password does not belong in this URL: use the settings beside it"
        raise ValueError(msg)
    return url


Url = Annotated[str, Field(pattern=r"^https?://\S+$"), AfterValidator(_without_password)]
GitBase = Annotated[str, Field(pattern=r"^(/|[a-z]+://)\S+$"), AfterValidator(_without_password)]


class SettingsInvalid(UsageError):
    """A setting does not exist or has a wrong value; the message lists all of them."""

    template = "{problems}"
    help = "Correct the settings; `perfci config example` prints each one with its meaning."


class SettingsUnreadable(UsageError):
    """The settings file is missing, can't be read or is not TOML."""

    template = "{file}: {reason}"
    help = "Correct the file, or name another one in PERFCI_CONFIG."


class SecretUnreadable(UsageError):
    """The file that a setting names for a secret can't be read or is empty."""

    template = "{setting}: can't read a secret from {file}: {reason}"
    help = "Write the secret into this file, and let only the user who runs perfci read it."


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Influx(_Section):
    """Where perfci stores results besides the archive."""

    url: Url | None = None
    """InfluxDB's address. Default: the embedded lab's own, which runs while perfci stores results."""
    database: Annotated[str, Field(min_length=1)] = "perfci"
    """Database, for InfluxDB 1.x and for reading through InfluxQL."""
    bucket: str | None = None
    """Bucket, for InfluxDB 2 and later. Default: the database's name."""
    org: str = ""
    """Organisation, for InfluxDB 2 and later."""
    token: SecretStr | None = None
    """Token, for InfluxDB 2 and later; only in the environment."""
    token_file: Path | None = None
    """File with the token."""
    username: str | None = None
    """User name, for InfluxDB 1.x with authentication."""
    password: SecretStr | None = None
    """Password of that user; only in the environment."""
    password_file: Path | None = None
    """File with the password."""
    timeout_seconds: Seconds = 10
    """How long one request may take, in seconds."""

    def secret_token(self) -> str | None:
        """Return the token, or None where none is set. Raises SecretUnreadable."""
        return _secret("influx.token_file", self.token, self.token_file)

    def secret_password(self) -> str | None:
        """Return the password, or None where none is set. Raises SecretUnreadable."""
        return _secret("influx.password_file", self.password, self.password_file)


class Smtp(_Section):
    """The mail server, if `mail.transport` is `smtp`."""

    host: Annotated[str, Field(min_length=1)] = "localhost"
    """Name or address of the server."""
    port: Port = 25
    """TCP port: usually 25, 587 with starttls, 465 with tls."""
    security: Literal["none", "starttls", "tls"] = "none"
    """Encryption of the connection."""
    username: str | None = None
    """User name, if the server wants one."""
    password: SecretStr | None = None
    """Password of that user; only in the environment."""
    password_file: Path | None = None
    """File with the password."""
    timeout_seconds: Seconds = 30
    """How long the server may take for one answer, in seconds."""

    def secret_password(self) -> str | None:
        """Return the password, or None where none is set. Raises SecretUnreadable."""
        return _secret("mail.smtp.password_file", self.password, self.password_file)


class Mail(_Section):
    """Who gets mail, and how."""

    transport: Literal["maildir", "smtp"] = "maildir"
    """A maildir under the state folder, or a mail server."""
    from_address: Address = "perfci@localhost"
    """Sender of all mail."""
    to: tuple[Address, ...] = ()
    """Who gets the mail about regressions, unless the job says otherwise."""
    admins: tuple[Address, ...] = ()
    """Who gets the mail about the lab itself."""
    authors: bool = False
    """Whether the author of a change that a bisect proves also gets that mail."""
    base_url: Url | None = None
    """Address of the trend pages; links in mails start with it. Default: mails name commands instead."""
    smtp: Smtp = Smtp()


class Grafana(_Section):
    """Where perfci pushes dashboards."""

    url: Url | None = None
    """Grafana's address. Default: perfci only writes dashboards as files."""
    token: SecretStr | None = None
    """Token of a service account; only in the environment."""
    token_file: Path | None = None
    """File with the token."""
    folder: Annotated[str, Field(min_length=1)] = "perfci"
    """Folder of the dashboards in Grafana."""
    timeout_seconds: Seconds = 10
    """How long one request may take, in seconds."""

    def secret_token(self) -> str | None:
        """Return the token, or None where none is set. Raises SecretUnreadable."""
        return _secret("grafana.token_file", self.token, self.token_file)


class DatabaseSettings(_Section):
    """Where perfci keeps reservations, alerts, waiting mail and verdicts."""

    url: str | None = None
    """SQLAlchemy URL without a password, such as postgresql+psycopg://perfci@db/perfci. Default: SQLite in
    the state folder."""
    password: SecretStr | None = None
    """Password of the database's user; only in the environment."""
    password_file: Path | None = None
    """File with the password."""

    @field_validator("url")
    @classmethod
    def _no_password(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).password is not None:
            msg = "a password does not belong in the URL: use database.password_file"
            raise ValueError(msg)
        if url is not None and not re.match(r"[a-z0-9+]+://", url):
            msg = "expected a database URL such as sqlite:////srv/perfci/lab.db"
            raise ValueError(msg)
        return url

    def secret_password(self) -> str | None:
        """Return the password, or None where none is set. Raises SecretUnreadable."""
        return _secret("database.password_file", self.password, self.password_file)


class LimitSettings(_Section):
    """How long a run may take, and when the lab counts as unfit to measure."""

    run_hours: Hours = 6
    """How long a run may hold its nodes, in hours."""
    foreign_cpu_share: Share = 0.05
    """Share of all CPU time that processes outside the lab may use during the load, 0 to 1."""
    steal_share: Share = 0.05
    """Share of all CPU time that a hypervisor may take away during the load, 0 to 1."""
    canary_change: Share = 0.25
    """How much slower than usual a canary may be before the run counts as invalid, relative: 0.25 is 25 %."""


class ReservationSettings(_Section):
    """Who may have how many nodes, for how long."""

    admins: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Users who may change everybody's reservations and put nodes into quarantine or out of it."""
    longest_hours: Annotated[float, Field(gt=0, le=8784)] = 720
    """How long one reservation may be, in hours."""
    horizon_days: Annotated[float, Field(gt=0, le=3660)] = 366
    """How far ahead one may begin, in days."""
    nodes_per_person: Annotated[int, Field(ge=1)] | None = None
    """How many nodes one person may have at a time. Default: no limit."""
    open_per_person: Annotated[int, Field(ge=1)] | None = None
    """How many open reservations one person may have. Default: no limit."""
    patience_hours: Annotated[float, Field(gt=0, le=8784)] = 48
    """After this many hours in the queue, no other reservation may overtake this one."""
    book_over_nights: bool = False
    """Whether people may take the time of a planned night, which then moves."""
    mail_domain: Annotated[str, Field(pattern=MAIL_DOMAIN)] | None = None
    """Mail about a reservation without an address goes to its holder at this domain. Default: to nobody."""
    idle_hours: Annotated[float, Field(ge=1, le=8784)] | None = None
    """After this many hours without typing or load on machines, perfci warns their holder. Default: never."""
    idle_end_hours: Annotated[float, Field(ge=1, le=8784)] | None = None
    """After this many hours without either, perfci takes them back. Default: never."""


class Web(_Section):
    """The lab's calendar as a web page: `perfci lab serve`."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on. There is no encryption: put a reverse proxy in front of anything but loopback."""
    port: Port = 8780
    """TCP port to listen on."""
    public_url: Url | None = None
    """Address that people type, such as https://lab.example.org/perfci. Default: host and port."""


class Settings(BaseSettings):
    """All settings. Relative paths in the file start at the file's folder."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )

    root_dir: Path
    """Folder with inventory/, playbooks/ and jobs/. Default: the project of the working folder."""
    state_dir: Path
    """Folder for everything that perfci makes at run time. Default: state/ in root_dir."""
    lab: names.Lab = "embedded"
    """Name of the lab: its Ansible inventory is inventory/<lab>."""
    port_base: Annotated[int, Field(ge=1024, le=64000)] = 17000
    """The embedded lab's ports begin here; two labs on one machine need different ones."""
    git_base: GitBase | None = None
    """Where OpenStack's git repositories are: a URL, or the absolute path of a folder, with
    openstack/nova, openstack/devstack and so on. openstack/openstack has the order of all changes."""
    git_seconds: Seconds = 600
    """How long one git command may take, in seconds."""
    influx: Influx = Influx()
    mail: Mail = Mail()
    grafana: Grafana = Grafana()
    database: DatabaseSettings = DatabaseSettings()
    limits: LimitSettings = LimitSettings()
    reservations: ReservationSettings = ReservationSettings()
    web: Web = Web()

    PATHS: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("root_dir",),
        ("state_dir",),
        ("influx", "token_file"),
        ("influx", "password_file"),
        ("mail", "smtp", "password_file"),
        ("grafana", "token_file"),
        ("database", "password_file"),
    )
    """The settings that are paths, to be made absolute."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  (pydantic-settings gives these four by name)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only what `load` collected, so that each error can say where its value came from."""
        return (init_settings,)

    @property
    def jobs_dir(self) -> Path:
        """Folder of the job files."""
        return self.root_dir / "jobs"

    @property
    def inventory_dir(self) -> Path:
        """Ansible inventory of this lab."""
        return self.root_dir / "inventory" / self.lab

    @property
    def influx_address(self) -> str:
        """InfluxDB's address, also where none is set: the embedded lab's own."""
        return self.influx.url or f"http://127.0.0.1:{self.port_base + _INFLUX_OFFSET}"

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the database, without its password."""
        return self.database.url or f"sqlite:///{self.state_dir / 'lab.db'}"

    def shown(self) -> dict[str, Any]:
        """Return all settings for people and for `--json`, with `********` in place of each secret."""
        shown: dict[str, Any] = _masked(self.model_dump())
        return shown


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    The file is `path`, else the one that PERFCI_CONFIG names, else `perfci.toml` in the working
    folder, else the one in the project's folder; with none of them the defaults hold.

    Raises SettingsUnreadable or SettingsInvalid (with everything that is wrong).
    """
    root = find_root(Path.cwd())
    file = path or _named(environ) or _present(Path.cwd() / FILE_NAME, root / FILE_NAME)
    text = _read(file) if file else ""
    written = _parsed(text, file) if file else {}
    unknown = list(_unknown_variables(environ))
    unusable = {str(fault.path[0]) for fault in unknown}
    given = _from_environment({name: value for name, value in environ.items() if name not in unusable})
    wrong = [*_secrets_in_file(written), *unknown, *_renamed(written)]
    if file:
        _absolute(written, file.absolute().parent)
    _absolute(given, Path.cwd())
    merged = _merged(written, given)
    merged.setdefault("root_dir", root)
    merged.setdefault("state_dir", Path(str(merged["root_dir"])) / "state")
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        wrong += faults(error, Settings)
    if wrong:
        raise SettingsInvalid(
            problems="\n".join(f"{_source(fault, given, file, text)}: {fault.message}" for fault in wrong)
        )
    return settings


def find_root(start: Path) -> Path:
    """Return the nearest folder upwards that is a perfci project, else the one this package is in."""
    for folder in (start, *start.parents):
        if (folder / "inventory").is_dir() and (folder / "playbooks").is_dir():
            return folder
    return Path(__file__).resolve().parents[1]


def _named(environ: Mapping[str, str]) -> Path | None:
    name = environ.get("PERFCI_CONFIG")
    return Path(name) if name else None


def _present(*candidates: Path) -> Path | None:
    return next((file for file in candidates if file.is_file()), None)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise SettingsUnreadable(file=file, reason=reason) from error


def _parsed(text: str, file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise SettingsUnreadable(file=file, reason="not TOML: nested too deeply") from error
    except ValueError as error:  # also numbers of thousands of digits
        raise SettingsUnreadable(file=file, reason=f"not TOML: {error}") from error


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    source = EnvSettingsSource(Settings)
    source.env_vars = {name.lower(): value for name, value in environ.items() if name.startswith(PREFIX)}
    try:
        return source()
    except SettingsError as error:
        raise SettingsInvalid(problems=f"environment: {error}; a list is written as JSON") from error


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[Fault]:
    """Find variables of settings or sections that do not exist, which pydantic-settings passes over."""
    sections = [key.upper() for key, info in Settings.model_fields.items() if _is_section(info.annotation)]
    settings = [f"{PREFIX}{key.upper()}" for key in Settings.model_fields if key.upper() not in sections]
    for name in sorted(environ):
        if not name.upper().startswith(PREFIX) or name in NO_SETTINGS:
            continue
        section, nested, _ = name[len(PREFIX) :].partition("__")
        if nested and section.upper() not in sections:
            advice = _RENAMED.get(section.lower()) or nearest(section, sections)
            yield Fault((name,), f"unknown section {section}; {advice}")
        elif not nested and name.upper() not in settings:
            known = [*settings, *NO_SETTINGS, *(f"{PREFIX}{key}__" for key in sections)]
            yield Fault((name,), f"unknown setting; {nearest(name, known)}")


def _renamed(written: dict[str, Any]) -> Iterator[Fault]:
    """Find sections that have another name now, and take them out."""
    for section in sorted(_RENAMED.keys() & written.keys()):
        del written[section]
        yield Fault((section,), f"unknown section; {_RENAMED[section]}")


def _is_section(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, _Section)


def _secrets_in_file(written: dict[str, Any], model: type[BaseModel] = Settings) -> Iterator[Fault]:
    """Find secrets that stand in the file itself."""
    for key, value in written.items():
        info = model.model_fields.get(key)
        if info is None:
            continue
        if info.annotation == SecretStr | None:
            yield Fault((key,), f"a secret does not belong in this file: use {key}_file or the environment")
        elif isinstance(value, dict) and isinstance(info.annotation, type) and _is_section(info.annotation):
            for fault in _secrets_in_file(value, info.annotation):
                yield Fault((key, *fault.path), fault.message)


def _absolute(data: dict[str, Any], folder: Path) -> None:
    """Make the paths in `data` absolute, in place; what has a wrong type is left to the validation."""
    for *sections, key in Settings.PATHS:
        part: Any = data
        for section in sections:
            part = part.get(section) if isinstance(part, dict) else None
        if isinstance(part, dict) and isinstance(part.get(key), str):
            part[key] = str(folder / Path(part[key]).expanduser())


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(below[key], above[key])
        for key in below.keys() & above.keys()
        if isinstance(below[key], dict) and isinstance(above[key], dict)
    }
    return {**below, **above, **both}


def _source(fault: Fault, given: dict[str, Any], file: Path | None, text: str) -> str:
    """Return where a wrong value stands: `perfci.toml:3: mail.port` or the environment's variable."""
    if str(fault.path[0]).startswith(PREFIX):
        return f"environment: {fault.path[0]}"
    part: Any = given
    for key in fault.path:
        part = part.get(key) if isinstance(part, dict) and isinstance(key, str) else None
    if part is not None or file is None:
        keys = [str(key).upper() for key in fault.path if isinstance(key, str)]
        return f"environment: {PREFIX}{'__'.join(keys)}"
    line = _line(text, [str(key) for key in fault.path if isinstance(key, str)])
    return f"{file}{f':{line}' if line else ''}: {place(fault.path)}"


def _line(text: str, keys: list[str]) -> int | None:
    """Return the line (from 1) on which a key of a TOML text stands, or its section; None if not found."""
    section: list[str] = []
    found = None
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\s*([\w.\s\"-]+?)\s*\]", line):
            section = [part.strip().strip('"') for part in header[1].split(".")]
            here = section
        elif pair := re.match(r"\s*([\w.\"-]+)\s*=", line):
            here = section + [part.strip('"') for part in pair[1].split(".")]
        else:
            continue
        if here == keys:
            return number
        if here == keys[: len(here)]:
            found = number
    return found


def _secret(setting: str, value: SecretStr | None, file: Path | None) -> str | None:
    if value is not None:
        return value.get_secret_value()
    if file is None:
        return None
    try:
        secret = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise SecretUnreadable(setting=setting, file=file, reason=reason) from error
    if not secret:
        raise SecretUnreadable(setting=setting, file=file, reason="it is empty")
    return secret


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _masked(inner) for key, inner in value.items()}
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, tuple):
        return [_masked(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value
