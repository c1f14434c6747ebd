"""Settings: defaults, file, environment, secrets, and errors that say where."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from perfci.cli.config import example_text
from perfci.config import SecretUnreadable, SettingsInvalid, SettingsUnreadable, find_root, load

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(folder: Path, text: str) -> Path:
    file = folder / "perfci.toml"
    file.write_text(text)
    return file


def test_the_defaults_need_no_file() -> None:
    settings = load(environ={})
    assert settings.lab == "embedded"
    assert settings.state_dir == settings.root_dir / "state"
    assert settings.influx_address == "http://127.0.0.1:17086"
    assert settings.database_url == f"sqlite:///{settings.state_dir}/lab.db"
    assert settings.mail.transport == "maildir"


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    write(tmp_path, '[mail]\ntransport = "smtp"\n[mail.smtp]\nhost = "a"\nport = 587\n')
    settings = load(environ={"PERFCI_MAIL__SMTP__HOST": "b", "PERFCI_MAIL__TO": '["x@example.org"]'})
    assert (settings.mail.smtp.host, settings.mail.smtp.port) == ("b", 587)
    assert settings.mail.to == ("x@example.org",)
    assert settings.mail.transport == "smtp"


def test_the_file_can_be_named(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('lab = "rack"\n')
    assert load(environ={"PERFCI_CONFIG": str(other)}).lab == "rack"
    assert load(other, environ={}).lab == "rack"


def test_variables_that_are_no_settings_are_left_alone() -> None:
    assert load(environ={"PERFCI_SERVICE": "rally", "PERFCI_RUN": "x", "HOME": "/"}).lab == "embedded"


@pytest.mark.parametrize("base", ["mirrors", "../git", "https://me:pw@host/git", ""])
def test_a_git_base_is_a_url_or_an_absolute_path(base: str) -> None:
    with pytest.raises(SettingsInvalid, match="PERFCI_GIT_BASE"):
        load(environ={"PERFCI_GIT_BASE": base})
    assert load(environ={"PERFCI_GIT_BASE": "/srv/git"}).git_base == "/srv/git"


def test_relative_paths_start_at_the_files_folder(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    file = write(folder, 'state_dir = "../var"\n[influx]\ntoken_file = "token"\n')
    settings = load(file, environ={})
    assert settings.influx.token_file == folder / "token"
    assert settings.state_dir.resolve() == tmp_path / "var"


def test_state_dir_from_the_environment_starts_at_the_working_folder(tmp_path: Path) -> None:
    assert load(environ={"PERFCI_STATE_DIR": "var"}).state_dir == tmp_path / "var"


def test_the_project_is_found_from_a_folder_inside_it(tmp_path: Path) -> None:
    for name in ("inventory", "playbooks", "jobs/tasks"):
        (tmp_path / name).mkdir(parents=True)
    assert find_root(tmp_path / "jobs" / "tasks") == tmp_path


def test_all_mistakes_are_told_at_once_with_file_line_and_key(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        'lab = "embedded"\n\n[mail]\ntransprt = "smtp"\nto = ["nobody"]\n\n[mail.smtp]\nport = "many"\n\n[influxx]\na=1\n',
    )
    with pytest.raises(SettingsInvalid) as caught:
        load(file, environ={})
    lines = str(caught.value).splitlines()
    assert f"{file}:4: mail.transprt: unknown key; did you mean 'transport'?" in lines
    assert f"{file}:8: mail.smtp.port: expected a whole number from 1 to 65535, got 'many'" in lines
    assert f"{file}:10: influxx: unknown key; did you mean 'influx'?" in lines
    assert any(
        line.startswith(f"{file}:5: mail.to[0]: expected text such as 'team@example.org'") for line in lines
    )
    assert len(lines) == 4


def test_a_mistake_in_the_environment_names_the_variable(tmp_path: Path) -> None:
    write(tmp_path, "[limits]\nrun_hours = 2\n")
    with pytest.raises(SettingsInvalid) as caught:
        load(environ={"PERFCI_LIMITS__RUN_HOURS": "long", "PERFCI_MAIL__TRANSPRT": "smtp"})
    lines = str(caught.value).splitlines()
    assert (
        "environment: PERFCI_LIMITS__RUN_HOURS: expected a number above 0 and at most 720, got 'long'"
        in lines
    )
    assert "environment: PERFCI_MAIL__TRANSPRT: unknown key; did you mean 'transport'?" in lines


def test_a_variable_of_an_unknown_section_is_a_mistake() -> None:
    with pytest.raises(
        SettingsInvalid, match="PERFCI_INFLX__URL: unknown section INFLX; did you mean 'INFLUX'"
    ):
        load(environ={"PERFCI_INFLX__URL": "http://x"})


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("PERFCI_STATEDIR", "did you mean 'PERFCI_STATE_DIR'?"),
        ("PERFCI_CONFG", "did you mean 'PERFCI_CONFIG'?"),
        ("PERFCI_PORTBASE", "did you mean 'PERFCI_PORT_BASE'?"),
        ("PERFCI_MAIL", "did you mean 'PERFCI_MAIL__'?"),
        ("PERFCI_LABB", "did you mean 'PERFCI_LAB'?"),
        ("PERFCI_ZZZZZZZZ", "known: PERFCI_CONFIG"),
    ],
)
def test_a_variable_of_an_unknown_setting_is_a_mistake(name: str, advice: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load(environ={name: "/elsewhere"})
    assert f"environment: {name}: unknown setting; {advice}" in str(caught.value)


def test_a_variable_in_small_letters_is_checked_too() -> None:
    assert load(environ={"PERFCI_lab": "rack"}).lab == "rack"
    with pytest.raises(SettingsInvalid, match="PERFCI_statedir"):
        load(environ={"PERFCI_statedir": "x"})


def test_a_top_level_key_of_the_file_that_is_unknown_is_a_mistake(tmp_path: Path) -> None:
    file = write(tmp_path, 'statedir = "x"\n')
    with pytest.raises(SettingsInvalid, match="statedir: unknown key; did you mean 'state_dir'"):
        load(file, environ={})


def test_a_list_that_is_not_json_is_told() -> None:
    with pytest.raises(SettingsInvalid, match="mail"):
        load(environ={"PERFCI_MAIL__TO": "x@example.org"})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[mail", "not TOML"),
        ("lab = 'a'\nlab = 'b'", "not TOML"),
        (f"lab = {'[' * 5000}", "not TOML: nested too deeply"),
        (f"lab = {'9' * 5000}", "not TOML"),
    ],
    ids=["cut", "twice", "deep", "huge"],
)
def test_a_file_that_is_not_toml(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(SettingsUnreadable, match=reason):
        load(write(tmp_path, text), environ={})


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsUnreadable, match="No such file"):
        load(environ={"PERFCI_CONFIG": str(tmp_path / "none.toml")})


def test_a_secret_in_the_file_is_refused_and_not_repeated(tmp_path: Path) -> None:
    file = write(tmp_path, '[influx]\ntoken = "s3cret"\n[mail.smtp]\npassword = "s3cret"\n')
    with pytest.raises(SettingsInvalid) as caught:
        load(file, environ={})
    assert f"{file}:2: influx.token: a secret does not belong in this file" in str(caught.value)
    assert f"{file}:4: mail.smtp.password: a secret" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_password_in_the_database_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsInvalid, match=r"use database\.password_file") as caught:
        load(environ={"PERFCI_DATABASE__URL": "postgresql+psycopg://perfci:s3cret@db/perfci"})
    assert "s3cret" not in str(caught.value)


def test_the_old_name_of_the_databases_section_is_refused_with_the_new_one(tmp_path: Path) -> None:
    file = write(tmp_path, '[mail]\ntransport = "smtp"\n[ledger]\nurl = "sqlite:////x/lab.db"\n')
    with pytest.raises(SettingsInvalid, match=r"perfci\.toml:3: ledger: .*called database now.*rename it"):
        load(file, environ={})
    with pytest.raises(SettingsInvalid, match=r"PERFCI_LEDGER__URL: .*called database now.*rename it"):
        load(environ={"PERFCI_LEDGER__URL": "sqlite:////x/lab.db"})


@pytest.mark.parametrize("setting", ["INFLUX__URL", "GRAFANA__URL", "MAIL__BASE_URL"])
def test_a_password_in_another_url_is_refused_and_not_repeated(setting: str) -> None:
    with pytest.raises(SettingsInvalid, match="does not belong in this URL") as caught:
        load(environ={f"PERFCI_{setting}": "https://perfci:s3cret@example.org/x"})
    assert "s3cret" not in str(caught.value)
    load(environ={f"PERFCI_{setting}": "https://example.org/a@b"})


@pytest.mark.parametrize(
    "text",
    ["root_dir = {}", "mail = 3", "mail.smtp = []", "state_dir = 5", "influx.token_file = {}", "lab = 1"],
)
def test_a_value_of_another_kind_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"perfci\.toml:1: .*expected"):
        load(write(tmp_path, text), environ={})


def test_secrets_come_from_the_environment_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    assert load(environ={}).influx.secret_token() is None
    assert load(environ={"PERFCI_INFLUX__TOKEN": "s3cret"}).influx.secret_token() == "s3cret"
    settings = load(write(tmp_path, '[influx]\ntoken_file = "token"\n'), environ={})
    assert settings.influx.secret_token() == "from-file"


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), ("\n", "empty")])
def test_a_secret_that_cannot_be_read(tmp_path: Path, content: str | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "pw").write_text(content)
    settings = load(environ={"PERFCI_MAIL__SMTP__PASSWORD_FILE": str(tmp_path / "pw")})
    with pytest.raises(SecretUnreadable, match=rf"mail\.smtp\.password_file.*{reason}"):
        settings.mail.smtp.secret_password()


def test_secrets_are_never_shown() -> None:
    environ = {
        "PERFCI_INFLUX__TOKEN": "s3cret",
        "PERFCI_INFLUX__PASSWORD": "s3cret",
        "PERFCI_MAIL__SMTP__PASSWORD": "s3cret",
        "PERFCI_GRAFANA__TOKEN": "s3cret",
        "PERFCI_DATABASE__PASSWORD": "s3cret",
    }
    settings = load(environ=environ)
    assert settings.shown()["influx"]["token"] == "********"
    assert settings.shown()["mail"]["smtp"]["password"] == "********"
    assert "s3cret" not in str(settings.shown()) + repr(settings)


def test_the_example_is_made_from_the_settings_and_loads(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs" / "perfci.example.toml").read_text()
    assert text == example_text(), "write it again: perfci config example > docs/perfci.example.toml"
    assert tomllib.loads(text)["mail"]["smtp"]["port"] == 25
    assert load(write(tmp_path, text), environ={}) == load(environ={"PERFCI_CONFIG": "/dev/null"})
