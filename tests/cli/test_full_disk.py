"""Every command reports what the system refuses without a traceback, and hides no fault of perfci's own."""

from __future__ import annotations

import errno
import json
import os

import archives
import pytest
from typer.testing import CliRunner

from perfci import files
from perfci.cli.access import lab_services
from perfci.cli.main import app
from perfci.report import site
from perfci.runs.verdicts.ingest import ingest


@pytest.fixture
def services(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("PERFCI_CONFIG", raising=False)
    services = lab_services()
    ingest(services, archives.night(tmp_path / "elsewhere", 1))
    return services


def refusing(monkeypatch, number):
    def refuse(target, *_, **__):
        raise OSError(number, os.strerror(number), str(target))

    monkeypatch.setattr(site, "write_whole", refuse)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_pages_that_can_not_be_written_are_an_error_with_the_file_and_what_to_do(
    services, monkeypatch, number
):
    refusing(monkeypatch, number)
    done = CliRunner().invoke(app, ["report"])
    assert done.exit_code == 3
    assert done.stderr.startswith(f"error: {services.state.site}")
    assert os.strerror(number) in done.stderr
    assert "docs/errors.md#filerefused" in done.stderr
    done = CliRunner().invoke(app, ["report", "--json"])
    assert (done.exit_code, json.loads(done.stdout)["error"]) == (3, "FileRefused")


def test_pages_that_are_there_stay_as_they_were(services, monkeypatch):
    assert CliRunner().invoke(app, ["report"]).exit_code == 0
    before = {file: file.read_bytes() for file in services.state.site.rglob("*") if file.is_file()}
    real, left = files.write_whole, [3]

    def soon_full(target, *args, **how):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        real(target, *args, **how)

    monkeypatch.setattr(site, "write_whole", soon_full)
    ingest(services, archives.night(services.state.root / "elsewhere", 2))
    assert CliRunner().invoke(app, ["report"]).exit_code == 3
    assert all(file.is_file() for file in before), "a page that readers have open is still there"


def test_what_is_not_the_systems_fault_is_not_called_so(services, monkeypatch):
    refusing(monkeypatch, errno.ENOTDIR)
    done = CliRunner().invoke(app, ["report"])
    assert isinstance(done.exception, NotADirectoryError)
