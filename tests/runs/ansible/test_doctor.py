"""What `perfci doctor` says without looking at the machine."""

from __future__ import annotations

from perfci import config
from perfci.runs.ansible.doctor import links_in_mail


def test_the_doctor_asks_for_the_address_of_the_pages_and_is_content_without(tmp_path):
    environment = {"PERFCI_STATE_DIR": str(tmp_path)}
    asked = links_in_mail(config.load(environ=environment))
    assert asked.ok
    assert f"Where is {tmp_path / 'site'} served? Set mail.base_url" in asked.detail
    environment["PERFCI_MAIL__BASE_URL"] = "https://perf.example.org/"
    assert "https://perf.example.org/" in links_in_mail(config.load(environ=environment)).detail
