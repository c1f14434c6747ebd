"""The commands: which there are, who may give them, how long their data is, what answers them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfci.lab.virtual.ipmi import application, chassis, storage, transport
from perfci.lab.virtual.ipmi.completion import CommandRefused, Completion
from perfci.lab.virtual.ipmi.sessions import Privilege

if TYPE_CHECKING:
    from perfci.lab.virtual.ipmi.call import Call

CHASSIS, SENSOR, APPLICATION, STORAGE, TRANSPORT = 0x00, 0x04, 0x06, 0x0A, 0x0C
"""Network functions (table 5-1)."""

Handler = Callable[["Call"], bytes | Awaitable[bytes]]
"""Returns the data after the completion code; raises `CommandRefused` for another code than 00h."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command: the least privilege for it (appendix G; None: no session), how long its data may be."""

    handler: Handler
    privilege: Privilege | None
    shortest: int = 0
    longest: int = 0


_ANY, _USER, _OPERATOR, _ADMIN = (
    Privilege.CALLBACK,
    Privilege.USER,
    Privilege.OPERATOR,
    Privilege.ADMINISTRATOR,
)
COMMANDS = {
    (CHASSIS, 0x00): Command(chassis.get_capabilities, _USER),
    (CHASSIS, 0x01): Command(chassis.get_status, _USER),
    (CHASSIS, 0x02): Command(chassis.control, _OPERATOR, 1, 1),
    (CHASSIS, 0x04): Command(chassis.identify, _OPERATOR, 0, 2),
    (CHASSIS, 0x08): Command(chassis.set_boot_options, _OPERATOR, 1, 18),
    (CHASSIS, 0x09): Command(chassis.get_boot_options, _OPERATOR, 3, 3),
    (SENSOR, 0x27): Command(storage.get_sensor_thresholds, _USER, 1, 1),
    (SENSOR, 0x2D): Command(storage.get_sensor_reading, _USER, 1, 1),
    (APPLICATION, 0x01): Command(application.get_device_id, _USER),
    (APPLICATION, 0x02): Command(application.cold_reset, _ADMIN),
    (APPLICATION, 0x03): Command(application.warm_reset, _ADMIN),
    (APPLICATION, 0x04): Command(application.get_self_test_results, _USER),
    (APPLICATION, 0x08): Command(application.get_guid, _USER),
    (APPLICATION, 0x37): Command(application.get_guid, None),
    (APPLICATION, 0x38): Command(application.get_channel_authentication_capabilities, None, 2, 2),
    (APPLICATION, 0x3B): Command(application.set_session_privilege_level, _ANY, 1, 1),
    (APPLICATION, 0x3C): Command(application.close_session, _ANY, 4, 5),
    (APPLICATION, 0x3D): Command(application.get_session_info, _USER, 1, 5),
    (APPLICATION, 0x41): Command(application.get_channel_access, _USER, 2, 2),
    (APPLICATION, 0x42): Command(application.get_channel_info, _USER, 1, 1),
    (APPLICATION, 0x44): Command(application.get_user_access, _OPERATOR, 2, 2),
    (APPLICATION, 0x46): Command(application.get_user_name, _OPERATOR, 1, 1),
    (APPLICATION, 0x48): Command(transport.activate_payload, _USER, 6, 6),
    (APPLICATION, 0x49): Command(transport.deactivate_payload, _USER, 6, 6),
    (APPLICATION, 0x4A): Command(transport.get_payload_activation_status, _USER, 1, 1),
    (APPLICATION, 0x4B): Command(transport.get_payload_instance_info, _USER, 2, 2),
    (APPLICATION, 0x4E): Command(transport.get_channel_payload_support, _USER, 1, 1),
    (APPLICATION, 0x4F): Command(transport.get_channel_payload_version, _USER, 2, 2),
    (APPLICATION, 0x54): Command(application.get_channel_cipher_suites, None, 3, 3),
    (STORAGE, 0x20): Command(storage.get_sdr_repository_info, _USER),
    (STORAGE, 0x22): Command(storage.reserve_sdr_repository, _USER),
    (STORAGE, 0x23): Command(storage.get_sdr, _USER, 6, 6),
    (STORAGE, 0x40): Command(storage.get_sel_info, _USER),
    (STORAGE, 0x42): Command(storage.reserve_sel, _USER),
    (STORAGE, 0x43): Command(storage.get_sel_entry, _USER, 6, 6),
    (STORAGE, 0x44): Command(storage.add_sel_entry, _OPERATOR, 16, 16),
    (STORAGE, 0x47): Command(storage.clear_sel, _OPERATOR, 6, 6),
    (STORAGE, 0x48): Command(storage.get_sel_time, _USER),
    (TRANSPORT, 0x22): Command(transport.get_sol_configuration, _USER, 4, 4),
}


def obey(net_function: int, number: int, call: Call) -> bytes | Awaitable[bytes]:
    """Carry a command out; return the data after its completion code. Raises `CommandRefused`.

    The checks come in the order in which a real BMC makes them: known, allowed, well formed.
    """
    command = COMMANDS.get((net_function, number))
    if command is None:
        raise CommandRefused(Completion.INVALID_COMMAND)
    if command.privilege is not None and (call.session is None or call.session.privilege < command.privilege):
        raise CommandRefused(Completion.INSUFFICIENT_PRIVILEGE)
    if not command.shortest <= len(call.data) <= command.longest:
        raise CommandRefused(Completion.LENGTH_INVALID)
    return command.handler(call)
