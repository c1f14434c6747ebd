"""What Redfish services say, in perfci's terms: pure functions on their JSON.

Names are those of the schemas ComputerSystem, Task, Thermal, Power, Sensor and LogEntry (DMTF DSP8010).
Vendors leave out what the schemas allow them to, so nothing but the names is relied upon.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from perfci.lab.bmc.base import BootDevice, BootOrder, Event, Power, Reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Document = dict[str, Any]

TARGETS = {
    BootDevice.DEFAULT: "None",
    BootDevice.NETWORK: "Pxe",
    BootDevice.DISK: "Hdd",
    BootDevice.SETUP: "BiosSetup",
}
_DEVICES = {target: device for device, target in TARGETS.items()}
_POWER = {"On": Power.ON, "PoweringOff": Power.ON, "Off": Power.OFF, "PoweringOn": Power.OFF}
"""On its way to off it is still on, and the other way round: an order is done once its end is reached."""
_ORDERED = {"Once": False, "Continuous": True}
_UEFI = "UEFI"
_TASK_RUNS = frozenset(
    {"New", "Starting", "Running", "Pending", "Stopping", "Suspended", "Interrupted", "Service", "Cancelling"}
)
_TASK_DONE = "Completed"
_ABSENT = "Absent"
_HEALTH = {"Warning": "warning", "Critical": "critical"}
_SYSTEM_LOGS = frozenset({"sel", "iml", "log1", "eventlog", "event", "standardlog"})
"""Ids of the logs in which BMCs keep what happened to the machine: others hold who logged in to the BMC."""


def power_of(system: Mapping[str, Any]) -> Power | None:
    """Return the machine's power; None where the BMC does not know it now."""
    return _POWER.get(str(system.get("PowerState")))


def boot_of(*boots: Mapping[str, Any], uefi_unsaid: bool) -> BootOrder:
    """Return what is ordered for the next start.

    `boots` are the properties Boot of the pending settings and of the system: the first one with an order
    counts. A firmware that knows one way to boot only does not say which: then `uefi_unsaid` is it.
    """
    for boot in boots:
        persistent = _ORDERED.get(str(boot.get("BootSourceOverrideEnabled")))
        device = _DEVICES.get(str(boot.get("BootSourceOverrideTarget")), BootDevice.DEFAULT)
        if persistent is None or device is BootDevice.DEFAULT:
            continue
        mode = next((one[_MODE] for one in (boot, *boots) if one.get(_MODE)), None)
        return BootOrder(device, persistent=persistent, uefi=uefi_unsaid if mode is None else mode == _UEFI)
    return BootOrder()


_MODE = "BootSourceOverrideMode"


def modes_of(*boots: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the ways in which the firmware can be told to boot; empty where it can't be told."""
    for boot in boots:
        if possible := boot.get(f"{_MODE}@Redfish.AllowableValues"):
            return tuple(map(str, possible))
    said = any(boot.get(_MODE) for boot in boots)
    return (_UEFI, "Legacy") if said else ()


def task_runs(status: int, document: Mapping[str, Any]) -> bool:
    """Tell whether a task goes on: HTTP status 202 says so, and some services answer 200 all the while."""
    return status == 202 or document.get("TaskState") in _TASK_RUNS  # noqa: PLR2004 - HTTP


def task_failure(document: Mapping[str, Any]) -> str:
    """Return why a task failed, in its own words; empty where it did not, or is no task any more."""
    state = document.get("TaskState")
    if state is None or (state == _TASK_DONE and document.get("TaskStatus") in {None, "OK", "Warning"}):
        return ""
    said = [str(one["Message"]) for one in document.get("Messages") or () if one.get("Message")]
    return "; ".join(said) or f"its task ended as {state}"


def readings_of(documents: Iterable[Mapping[str, Any]]) -> tuple[Reading, ...]:
    """Return the sensors in resources of the kinds Thermal, Power and Sensor; absent ones are left out."""
    return tuple(reading for document in documents for reading in _readings(document))


def _readings(document: Mapping[str, Any]) -> Iterator[Reading]:
    for one in _present(document.get("Temperatures")):
        yield _reading(one, "Temperature", one.get("ReadingCelsius"), "°C")
    for one in _present(document.get("Fans")):
        yield _reading(
            one, "Fan", one.get("Reading", one.get("ReadingRPM")), one.get("ReadingUnits") or "RPM"
        )
    for one in _present(document.get("Voltages")):
        yield _reading(one, "Voltage", one.get("ReadingVolts"), "V")
    for one in _present(document.get("PowerSupplies")):
        yield _reading(one, "Power supply", one.get("LastPowerOutputWatts"), "W")
    for one in _present(document.get("PowerControl")):
        yield _reading(one, "Power", one.get("PowerConsumedWatts"), "W")
    if "ReadingType" in document and _is_present(document):
        kind = str(document["ReadingType"])
        yield _reading(document, kind, document.get("Reading"), document.get("ReadingUnits") or "")


def _present(found: Any) -> Iterator[Mapping[str, Any]]:
    return (one for one in found or () if isinstance(one, dict) and _is_present(one))


def _is_present(one: Mapping[str, Any]) -> bool:
    return (one.get("Status") or {}).get("State") != _ABSENT


def _reading(one: Mapping[str, Any], kind: str, value: Any, units: str) -> Reading:
    status = one.get("Status") or {}
    name = str(one.get("Name") or one.get("MemberId") or kind)
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    state = status.get("State")
    states = (str(state),) if state and state != "Enabled" else ()
    return Reading(name, kind, number, units.replace("Cel", "°C"), states, _health(status.get("Health")))


def is_system_log(service: Mapping[str, Any]) -> bool:
    """Tell whether a log service holds what happened to the machine."""
    return service.get("LogEntryType") == "SEL" or str(service.get("Id")).lower() in _SYSTEM_LOGS


def events_of(entries: Iterable[Mapping[str, Any]]) -> tuple[Event, ...]:
    """Return log entries, the oldest first; those without a time come before all others."""
    found = [
        Event(
            _time(entry.get("Created")),
            str(entry.get("SensorType") or entry.get("EntryType") or ""),
            str(entry.get("Message") or entry.get("Name") or "without a message"),
            _health(entry.get("Severity")),
        )
        for entry in entries
    ]
    never = datetime.min.replace(tzinfo=UTC)
    return tuple(sorted(found, key=lambda event: event.at or never))


def _time(text: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _health(said: Any) -> str:
    return _HEALTH.get(str(said), "ok")
