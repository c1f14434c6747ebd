"""What goes into the environment digest of a machine's software, and what must not move it."""

import hashlib
import json
import os
from types import SimpleNamespace

import pytest

PINS = "nova==34.0.0\nneutron==29.0.0\noslo.messaging==18.3.1\n"


@pytest.fixture
def module(plugin):
    return plugin("machine_facts")


@pytest.fixture
def dpkg(tmp_path, monkeypatch):
    """Put a dpkg-query before the real one; it prints these lines, and notes what it was asked."""

    def install(*lines):
        program = tmp_path / "bin" / "dpkg-query"
        program.parent.mkdir()
        text = "".join(f"{line}\\n" for line in lines)
        program.write_text(f"#!/bin/sh\necho \"$@\" > {tmp_path}/asked\nprintf '{text}'\nexit 1\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return install


@pytest.mark.parametrize(
    "changed",
    [
        PINS.replace("18.3.1", "18.3.2"),
        PINS.replace("nova==34.0.0\n", ""),
        f"{PINS}glance==32.0.0\n",
        PINS.replace("nova", "nova2"),
        "",
    ],
)
def test_a_pin_that_moves_comes_or_goes_changes_the_digest(module, changed):
    assert module.constraints_digest(changed) != module.constraints_digest(PINS)


@pytest.mark.parametrize(
    "same",
    [
        "".join(reversed(PINS.splitlines(keepends=True))),
        PINS.replace("\n", "\r\n"),
        f"\n\n{PINS}\n  \n",
        PINS.rstrip(),
        PINS.replace("nova==", "  nova=="),
    ],
)
def test_order_and_white_space_do_not_change_the_digest(module, same):
    assert module.constraints_digest(same) == module.constraints_digest(PINS)


def test_the_digest_is_the_one_that_archives_have(module):
    """Another way to compute it would give each lab a new environment, and each series a new baseline."""
    text = "neutron==29.0.0\nnova==34.0.0\noslo.messaging==18.3.1"
    assert module.constraints_digest(PINS) == hashlib.sha256(text.encode()).hexdigest()


def test_only_installed_packages_have_a_version(module, dpkg, tmp_path):
    dpkg(
        "mariadb-server 1:10.11.6 installed",
        "memcached 1.6.18 config-files",
        "rabbitmq-server 3.10.8 installed",
    )
    found = module.versions(["mariadb-server", "memcached", "rabbitmq-server", "no-such-package"])
    assert found == {"mariadb-server": "1:10.11.6", "rabbitmq-server": "3.10.8"}
    assert (tmp_path / "asked").read_text().split() == [
        "-W", "-f", "${Package}", "${Version}", "${db:Status-Status}",
        "mariadb-server", "memcached", "rabbitmq-server", "no-such-package",
    ]  # fmt: skip


def test_without_packages_to_look_at_there_are_no_versions(module, dpkg):
    dpkg("everything 1.0 installed")
    assert module.versions([]) == {}


@pytest.fixture
def run(module, tmp_path, monkeypatch):
    """Run the module as Ansible does; return what it tells."""

    def go(*, check_mode):
        told = {}

        def ansible(**options):
            assert options["supports_check_mode"]
            params = {"packages": ["mariadb-server"], "constraints": str(tmp_path / "constraints.txt")}
            exit_json = lambda **result: told.update(result)  # noqa: E731
            return SimpleNamespace(params=params, check_mode=check_mode, exit_json=exit_json)

        monkeypatch.setattr(module, "AnsibleModule", ansible)
        module.main()
        return json.loads(json.dumps(told))

    return go


@pytest.mark.parametrize("check_mode", [False, True])
def test_the_module_tells_packages_and_constraints_and_changes_nothing(
    module, dpkg, run, tmp_path, check_mode
):
    dpkg("mariadb-server 1:10.11.6 installed")
    (tmp_path / "constraints.txt").write_text(PINS)
    assert run(check_mode=check_mode) == {
        "machine": {
            "packages": {"mariadb-server": "1:10.11.6"},
            "constraints": module.constraints_digest(PINS),
        }
    }


def test_missing_constraints_are_no_empty_ones(dpkg, run):
    """Only check mode may go on: a digest of nothing would be another environment, and a new baseline."""
    dpkg("mariadb-server 1:10.11.6 installed")
    with pytest.raises(FileNotFoundError):
        run(check_mode=False)
    assert run(check_mode=True)["machine"]["packages"] == {"mariadb-server": "1:10.11.6"}
