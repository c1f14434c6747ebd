"""Which processes belong to a lab, by their marks alone."""

from __future__ import annotations

import pytest

from perfci.lab.virtual.remains import belongs

MARKS = {"PERFCI_STATE_DIR": "/srv/state", "PERFCI_SERVICE": "virtual-lab"}


@pytest.mark.parametrize(
    ("environment", "command", "in_site", "ours"),
    [
        (MARKS, [], False, True),
        ({**MARKS, "PERFCI_SERVICE": "influxdb"}, [], False, False),
        ({**MARKS, "PERFCI_SERVICE": "netboot-dhcp"}, [], True, True),
        (
            {**MARKS, "PERFCI_STATE_DIR": "/srv/state/virtual/netboot/run", "PERFCI_SERVICE": "x"},
            [],
            False,
            True,
        ),
        ({**MARKS, "PERFCI_STATE_DIR": "/srv/state-of-another"}, [], True, False),
        ({**MARKS, "PERFCI_STATE_DIR": "/srv/other"}, [], False, False),
        ({"PERFCI_STATE_DIR": "/srv/state"}, [], True, False),  # a person's shell
        ({**MARKS, "PERFCI_STATE_DIR": ""}, [], True, False),
        ({}, ["ssh: /srv/state/virtual/cp/0a1b [mux]"], True, True),
        ({}, ["less", "/srv/state/virtual/daemon.log"], False, False),
        ({}, ["bash"], True, False),
    ],
)
def test_what_belongs_to_the_lab(tmp_path, environment, command, in_site, ours):
    real = {name: value.replace("/srv", str(tmp_path)) for name, value in environment.items()}
    words = [word.replace("/srv", str(tmp_path)) for word in command]
    assert belongs(real, words, tmp_path / "state", in_site=in_site) is ours
