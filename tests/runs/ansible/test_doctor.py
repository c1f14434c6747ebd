"""What `perfci doctor` says of jobs, and of the links in mails."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from perfci import config
from perfci.runs.ansible.doctor import examine, links_in_mail

JOBS = Path(__file__).parents[3] / "jobs"


def findings(settings):
    """Return what is said of each job; the machine is another test's."""
    return {one.about: one for one in examine(settings) if one.about.startswith("job ")}


@pytest.fixture
def no_machine(monkeypatch):
    class Books:
        def run(self, *_, **__):
            return None

    monkeypatch.setattr("perfci.runs.ansible.doctor.playbooks", lambda _: Books())


@pytest.mark.usefixtures("no_machine")
def test_the_jobs_that_are_there_are_whole_and_one_whose_template_lacks_a_variable_is_not(tmp_path):
    shutil.copytree(JOBS, tmp_path / "jobs")
    sample = '{% set disk_image = disk_image or "^tiny" %}\ntitle: {{ disk_image }} {{ times }}\n'
    (tmp_path / "jobs" / "tasks" / "boot-two.yml.j2").write_text(sample)
    (tmp_path / "jobs" / "sampled.yml").write_text(
        "name: sampled\nscenarios: [{task: boot-two, times: 2}]\nmail: {to: [team@example.org]}\n"
    )
    environment = {"PERFCI_ROOT_DIR": str(tmp_path)}
    found = findings(config.load(environ=environment))
    assert "job nightly" in found
    assert [about for about, one in found.items() if not one.ok] == ["job sampled"]
    assert "'disk_image' is undefined" in found["job sampled"].detail


@pytest.mark.usefixtures("no_machine")
def test_the_address_of_the_pages_is_asked_for_until_it_is_set(tmp_path):
    environment = {"PERFCI_ROOT_DIR": str(tmp_path)}
    asked = links_in_mail(config.load(environ=environment))
    assert asked.ok, "a lab without a web server works"
    assert f"Where is {tmp_path / 'state' / 'site'} served? Set mail.base_url" in asked.detail
    assert asked in examine(config.load(environ=environment))
    given = links_in_mail(
        config.load(environ={**environment, "PERFCI_MAIL__BASE_URL": "https://perf.example.org"})
    )
    assert given.detail == "they begin with https://perf.example.org"
