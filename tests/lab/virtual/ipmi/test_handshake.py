"""How a session is opened, and by whom not."""

from __future__ import annotations

import pytest
from lab.virtual.ipmi.client import (
    Client,
    Lab,
    Rejected,
    Unanswered,
    ask_bare,
    ask_old,
    bare_packet,
    open_request,
)

from perfci.lab.virtual.ipmi import SessionLimits

GET_DEVICE_ID = (0x06, 0x01)


@pytest.mark.parametrize("suite", [3, 17])
@pytest.mark.parametrize("role", [1, 2, 3, 4])
def test_a_session(suite, role):
    lab = Lab()
    client = Client(lab, suite=suite, role=role).open(privilege=role if role > 1 else 0)
    assert lab.bmc.sessions == 1
    assert client.do_sync(*GET_DEVICE_ID).code == (0 if role > 1 else 0xD4)
    assert client.close().code == 0
    assert lab.bmc.sessions == 0
    assert client.heard == list(range(1, len(client.heard) + 1))
    with pytest.raises(Unanswered):
        client.do_sync(*GET_DEVICE_ID)


def test_the_guid_is_the_same_everywhere_and_not_anothers():
    lab = Lab(name="n1")
    client = Client(lab).open()
    guid = ask_old(lab, 0x06, 0x37).data
    assert guid == client.guid == client.do_sync(0x06, 0x08).data == ask_bare(lab, 0x06, 0x37).data
    assert guid == ask_old(Lab(name="n1"), 0x06, 0x37).data != ask_old(Lab(name="n2"), 0x06, 0x37).data


def test_the_highest_role_is_administrator():
    client = Client(Lab(), role=0)
    client.ask()


@pytest.mark.parametrize("suite", [3, 17])
def test_a_wrong_password(suite):
    lab = Lab()
    client = Client(lab, password=b"guess", suite=suite)
    client.rakp_1()
    assert not client.bmc_is_right
    with pytest.raises(Rejected) as rejected:
        client.setup(0x14, client.rakp_3_message)
    assert (rejected.value.message, rejected.value.status) == (0x15, 0x0F)
    assert lab.bmc.sessions == 0
    with pytest.raises(Unanswered):
        client.setup(0x14, client.rakp_3_message)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"user": b"nobody"}, 0x0D),
        ({"user": b""}, 0x0D),
        ({"user": b"x" * 17}, 0x0C),
    ],
)
def test_a_wrong_name(options, status):
    lab = Lab()
    with pytest.raises(Rejected) as rejected:
        Client(lab, **options).rakp_1()
    assert (rejected.value.message, rejected.value.status) == (0x13, status)


def test_another_user():
    assert Client(Lab(), user=b"second", password=b"other").open().close().code == 0


@pytest.mark.parametrize(("asked", "role", "status"), [(2, 4, 0x0A), (4, 5, 0x09), (4, 0, 0x09)])
def test_a_role_that_is_not_to_be_had(asked, role, status):
    client = Client(Lab(), role=asked)
    client.ask()
    client.ask = lambda: None
    client.role = role
    with pytest.raises(Rejected) as rejected:
        client.rakp_1()
    assert rejected.value.status == status


@pytest.mark.parametrize(
    ("algorithms", "status"),
    [
        ((0, 0, 0), 0x04),
        ((2, 2, 1), 0x04),
        ((1, 2, 1), 0x05),
        ((1, 1, 0), 0x10),
        ((1, 4, 1), 0x11),
        ((3, 1, 1), 0x11),
    ],
)
def test_algorithms_that_are_not_to_be_had(algorithms, status):
    lab = Lab()
    (answer,) = lab.put(bare_packet(0x10, open_request(b"1234", algorithms)))
    assert answer[16:] == bytes([1, status, 0, 0]) + b"1234"


def test_a_role_in_open_session_that_there_is_not():
    (answer,) = Lab().put(bare_packet(0x10, open_request(b"1234", (3, 4, 1), role=5)))
    assert answer[16:18] == bytes([1, 0x09])


def test_an_algorithm_may_be_left_to_the_bmc():
    lab = Lab()
    request = b"\1\0\0\0" + b"1234" + b"".join(bytes([n, 0, 0, 0, 0, 0, 0, 0]) for n in range(3))
    (answer,) = lab.put(bare_packet(0x10, request))
    assert [answer[16 + offset] for offset in (16, 24, 32)] == [3, 4, 1]


def test_a_full_table():
    lab = Lab(limits=SessionLimits(sessions=2))
    clients = [Client(lab, peer=("192.0.2.1", port)).open() for port in (1, 2)]
    with pytest.raises(Rejected) as rejected:
        Client(lab).open()
    assert (rejected.value.message, rejected.value.status) == (0x11, 0x01)
    clients[0].close()
    Client(lab).open()


def test_the_last_slot_can_be_lost_in_mid_handshake():
    lab = Lab(limits=SessionLimits(sessions=1))
    first, second = Client(lab, peer=("192.0.2.1", 1)), Client(lab, peer=("192.0.2.1", 2))
    first.rakp_1()
    second.rakp_1()
    first.setup(0x14, first.rakp_3_message)
    with pytest.raises(Rejected) as rejected:
        second.setup(0x14, second.rakp_3_message)
    assert (rejected.value.message, rejected.value.status) == (0x15, 0x01)


def test_repeated_messages_get_the_same_answers():
    lab = Lab()
    client = Client(lab)
    request = bare_packet(0x10, open_request(client.console_id, client.algorithms))
    assert lab.put(request) == lab.put(request)
    client.rakp_1()
    assert client.lab.sent
    before = client.lab.sent[:]
    name = client.who
    rakp_1 = b"\x02\0\0\0" + client.bmc_id + client.random + name[:1] + b"\0\0" + name[1:]
    assert lab.put(bare_packet(0x12, rakp_1)) == [before[0][0]]
    rakp_3 = bare_packet(0x14, client.rakp_3_message)
    assert lab.put(rakp_3) == lab.put(rakp_3) != []
    assert lab.bmc.sessions == 1
    assert lab.put(bare_packet(0x14, client.rakp_3_message + b"x")) == []
    assert client.do_sync(0x06, 0x3B, b"\4").code == 0


def test_the_console_can_call_it_off():
    lab = Lab()
    client = Client(lab)
    client.rakp_1()
    off = client.rakp_3_message[:1] + b"\x0f" + client.rakp_3_message[2:]
    assert lab.put(bare_packet(0x14, off)) == []
    assert lab.put(bare_packet(0x14, client.rakp_3_message)) == []


def test_steps_out_of_order_get_no_answer():
    lab = Lab()
    assert lab.put(bare_packet(0x12, bytes(28))) == []
    assert lab.put(bare_packet(0x14, bytes(40))) == []
    client = Client(lab)
    client.ask()
    assert lab.put(bare_packet(0x14, b"\3\0\0\0" + client.bmc_id + bytes(32))) == []


@pytest.mark.parametrize(("kind", "length"), [(0x10, 31), (0x12, 27), (0x14, 7), (0x11, 40), (0x02, 40)])
def test_messages_that_are_too_short_or_not_for_a_bmc(kind, length):
    assert Lab().put(bare_packet(kind, bytes(length))) == []


def test_a_name_that_is_longer_than_its_message():
    lab = Lab()
    client = Client(lab)
    client.ask()
    assert lab.put(bare_packet(0x12, b"\2\0\0\0" + client.bmc_id + bytes(16) + b"\x14\0\0\x05admi")) == []


def test_algorithms_in_another_order():
    request = bytearray(open_request(b"1234", (3, 4, 1)))
    request[8], request[16] = 1, 0
    assert Lab().put(bare_packet(0x10, bytes(request))) == []


def test_ipmi_1_5_is_refused():
    """No authentication type is offered, and no session challenge."""
    lab = Lab()
    for asked in (0x0E, 0x01):
        assert ask_old(lab, 0x06, 0x38, bytes([asked, 4])).data == bytes([1, 0, 4, 0, 0, 0, 0, 0])
    assert ask_old(lab, 0x06, 0x39, b"\2" + bytes(16)).code == 0xC1
    assert ask_old(lab, 0x06, 0x38, b"\x8e\4").data == bytes([1, 0x80, 4, 2, 0, 0, 0, 0])
    assert ask_old(lab, 0x06, 0x38, b"\x83\4").code == 0xCC


def test_what_needs_a_session_is_refused_without():
    lab = Lab()
    for ask in (ask_old, ask_bare):
        assert ask(lab, *GET_DEVICE_ID).code == 0xD4
        assert ask(lab, 0x00, 0x02, b"\1").code == 0xD4
        assert ask(lab, 0x06, 0x3C, bytes(4)).code == 0xD4
        assert ask(lab, 0x30, 0x01).code == 0xC1
    assert not lab.machine.is_on


def test_the_list_of_suites():
    lab = Lab()
    records = bytes.fromhex("c003014181 c011034481")
    assert ask_old(lab, 0x06, 0x54, bytes.fromhex("0e0080")).data == b"\1" + records
    assert ask_old(lab, 0x06, 0x54, bytes.fromhex("0e0081")).data == b"\1"
    assert ask_old(lab, 0x06, 0x54, bytes.fromhex("0e0000")).data == bytes.fromhex("01 0103 4144 81")


def test_a_ping():
    (pong,) = Lab().put(bytes.fromhex("0600ff06 000011be 80 07 00 00"))
    assert pong[8:10] == b"\x40\x07"
