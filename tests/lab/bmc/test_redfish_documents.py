"""What services of several vendors say, on the payloads that sushy keeps for its own tests."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from perfci.lab.bmc.base import BootDevice, BootOrder, Power
from perfci.lab.bmc.redfish_documents import (
    boot_of,
    events_of,
    is_system_log,
    modes_of,
    power_of,
    readings_of,
    task_failure,
    task_runs,
)

SAMPLES = files("sushy.tests.unit.json_samples")


def sample(name):
    return json.loads(SAMPLES.joinpath(name).read_text())


@pytest.mark.parametrize(
    ("said", "power"),
    [
        ("On", Power.ON),
        ("Off", Power.OFF),
        ("PoweringOn", Power.OFF),
        ("PoweringOff", Power.ON),
        (None, None),
        ("Paused", None),
    ],
)
def test_power(said, power):
    assert power_of({"PowerState": said}) is power
    assert power_of({}) is None


def test_the_boot_order_of_a_system():
    boot = sample("system.json")["Boot"]
    assert boot_of(boot, uefi_unsaid=False) == BootOrder(BootDevice.NETWORK, uefi=True)
    assert modes_of(boot) == ("UEFI", "Legacy")


def test_settings_that_wait_for_the_next_start_come_first():
    system = sample("system.json")["Boot"]
    nokia = sample("settings-body-nokia.json")["Boot"]
    # Nothing is ordered there, so that what the system says counts.
    assert boot_of(nokia, system, uefi_unsaid=False).device is BootDevice.NETWORK
    disk = nokia | {"BootSourceOverrideEnabled": "Continuous", "BootSourceOverrideTarget": "Hdd"}
    assert boot_of(disk, system, uefi_unsaid=False) == BootOrder(BootDevice.DISK, persistent=True, uefi=True)
    assert modes_of(nokia, system) == ("UEFI",)
    lenovo = sample("settings-body-lenovo-se450.json")["Boot"]
    assert boot_of(lenovo, system, uefi_unsaid=False).device is BootDevice.NETWORK


@pytest.mark.parametrize("enabled", ["Disabled", None, ""])
def test_nothing_is_ordered(enabled):
    boot = {"BootSourceOverrideEnabled": enabled, "BootSourceOverrideTarget": "Pxe"}
    assert boot_of(boot, uefi_unsaid=True) == BootOrder()
    assert boot_of(uefi_unsaid=True) == BootOrder()


@pytest.mark.parametrize("uefi", [True, False])
def test_a_firmware_that_does_not_say_how_it_boots(uefi):
    dell = sample("settings-body-bootsourceoverridemode-only.json")["Boot"]
    boot = {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"}
    assert modes_of(dell, boot) == ()
    assert boot_of(boot, dell, uefi_unsaid=uefi) == BootOrder(BootDevice.NETWORK, uefi=uefi)


def test_sensors():
    found = readings_of([sample("thermal.json"), sample("power.json")])
    assert {(one.kind, one.units) for one in found} == {
        ("Temperature", "°C"),
        ("Fan", "RPM"),
        ("Power supply", "W"),
    } | {(one.kind, one.units) for one in found if one.kind in {"Voltage", "Power"}}
    assert all(one.value is None or isinstance(one.value, float) for one in found)
    single = {"ReadingType": "Temperature", "Name": "Inlet", "Reading": 21, "ReadingUnits": "Cel"}
    (inlet,) = readings_of([single | {"Status": {"State": "Enabled", "Health": "Warning"}}])
    assert (inlet.value, inlet.units, inlet.health) == (21.0, "°C", "warning")
    assert readings_of([single | {"Status": {"State": "Absent"}}, {}]) == ()


def test_a_sensor_that_can_not_be_read_now_has_no_value():
    (one,) = readings_of([{"Fans": [{"Name": "Fan 1", "Reading": None, "Status": {"State": "Starting"}}]}])
    assert (one.value, one.states, one.health) == (None, ("Starting",), "ok")


def test_logs_of_the_machine_and_others():
    assert is_system_log({"Id": "Sel"})
    assert is_system_log({"Id": "Log", "LogEntryType": "SEL"})
    assert not is_system_log({"Id": "AuditLog"})
    assert events_of([]) == ()


def test_tasks():
    done = sample("task_monitor.json")
    assert not task_runs(200, done)
    assert task_failure(done) == ""
    assert task_runs(202, {})
    assert task_runs(200, {"TaskState": "Running"})
    assert not task_runs(204, {})
    assert task_failure({}) == ""
    assert task_failure({"TaskState": "Killed"}) == "its task ended as Killed"
    critical = done | {"TaskStatus": "Critical"}
    assert task_failure(critical) == "Property %1 is read only."
