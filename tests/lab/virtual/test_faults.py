"""Faults as typed, and as a node has them."""

from __future__ import annotations

import pytest

from perfci.errors import UsageError
from perfci.lab.virtual import faults
from perfci.lab.virtual.errors import FaultInvalid
from perfci.lab.virtual.faults import MachineFaults
from perfci.lab.virtual.ipmi import Faults


def test_faults_as_typed():
    assert faults.parsed(["hang", "drop=0.3", "pxe_nak=false", "recovers_by=cold"]) == {
        "hang": True,
        "drop": "0.3",
        "pxe_nak": "false",
        "recovers_by": "cold",
    }


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["hangs"], "did you mean 'hang'"),
        (["hang", "hang=false"], "given twice"),
        (["=1"], "known: "),
        ([""], "known: "),
    ],
)
def test_what_is_not_a_fault(words, reason):
    with pytest.raises(FaultInvalid, match=reason):
        faults.parsed(words)


def test_faults_of_both_parts():
    bmc, machine = Faults(), MachineFaults()
    faults.change(bmc, machine, faults.parsed(["drop=0.25", "disk_full", "stale_sessions=2"]))
    assert (bmc.drop, bmc.stale_sessions, machine.disk_full) == (0.25, 2, True)
    assert faults.shown(bmc, machine) == {"drop": 0.25, "stale_sessions": 2, "disk_full": True}
    faults.change(bmc, machine, {"disk_full": "false"})
    assert not machine.disk_full
    faults.clear(bmc, machine)
    assert faults.shown(bmc, machine) == {}
    assert (bmc, machine) == (Faults(), MachineFaults())


@pytest.mark.parametrize("wrong", [{"drop": "2"}, {"reboot_loop": "maybe"}, {"drop": None}, {"hang": {}}])
def test_all_or_none_of_them(wrong):
    bmc, machine = Faults(), MachineFaults()
    with pytest.raises(UsageError):
        faults.change(bmc, machine, {"sessions_full": True, "dies_in_deploy": True, **wrong})
    assert faults.shown(bmc, machine) == {}
