"""The Redfish client against sushy-tools' emulator: each operation, the quirks of vendors, and what is left behind."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from redfish_emulator import NODE, OTHER, PASSWORD, ROOT, SYSTEM, emulated

from perfci.lab.bmc import protocols, redfish
from perfci.lab.bmc.base import BmcProtocol, BootDevice, BootOrder, Power, PowerOrder, Restart, Rung
from perfci.lab.bmc.errors import (
    BmcCertificateUntrusted,
    BmcCredentialsWrong,
    BmcDeadline,
    BmcGarbled,
    BmcIneffective,
    BmcRefused,
    BmcRightsMissing,
    BmcSilent,
    BmcUnreachable,
    BmcUnsupported,
)
from perfci.lab.bmc.ladder import Patience
from perfci.lab.bmc.operations import Order
from perfci.lab.bmc.orders import Means, give
from perfci.lab.bmc.redfish import connect

SHORT = Means(10)
NETWORK_ON = Order(PowerOrder.CYCLE, BootOrder(BootDevice.NETWORK, uefi=True))
NETWORK_ONCE = BootOrder(BootDevice.NETWORK)


CUT, NESTED, HUGE = '{"Id": "1", "Power', "[" * 100_000, f'{{"Id": {"9" * 5000}}}'


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(redfish, "BUSY_SECONDS", (0.01, 0.02, 0.03))
    monkeypatch.setattr(redfish, "SETTLE_SECONDS", (0.01,) * 5)
    monkeypatch.setattr(redfish, "TASK_POLL_SECONDS", 0.01)
    monkeypatch.setattr(protocols, "_found", {})


def order(target, wanted, means=SHORT):
    (result,) = asyncio.run(give([target], wanted, means))
    return result


def ask(target, question):
    async def asked():
        async with connect(target) as bmc:
            return await question(bmc)

    return asyncio.run(asked())


def test_power_and_boot_order_reach_the_machine():
    with emulated() as bmc:
        result = order(bmc.target, NETWORK_ON)
        assert result.ok, result.error
        assert (bmc.power, bmc.resets) == ("On", ["On"])
        assert bmc.boot["BootSourceOverrideMode"] == "UEFI"
        again = order(bmc.target, Order(PowerOrder.ON))
        assert (again.ok, again.done.changed) == (True, False)
        result = order(bmc.target, Order(PowerOrder.CYCLE))
        assert (result.ok, bmc.resets) == (True, ["On", "ForceOff", "On"])
        result = order(bmc.target, Order(PowerOrder.SOFT))
        assert (result.done.before.power, result.done.after.power) == (Power.ON, Power.OFF)
        assert bmc.sessions == {}


@pytest.mark.parametrize("device", BootDevice)
@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("uefi", [True, False])
def test_each_boot_order_reads_as_it_was_set(device, persistent, uefi):
    wanted = BootOrder(device, persistent=persistent, uefi=uefi)
    with emulated(modes=("UEFI", "Legacy")) as bmc:
        result = order(bmc.target, Order(boot=BootOrder(BootDevice.SETUP)))
        assert result.ok, result.error
        result = order(bmc.target, Order(boot=wanted))
        assert result.ok, result.error
        assert result.done.after.boot == wanted


def test_an_order_for_once_is_used_up_by_the_next_start():
    with emulated() as bmc:
        assert order(bmc.target, Order(PowerOrder.ON, NETWORK_ONCE)).ok
        assert ask(bmc.target, lambda one: one.boot()) == BootOrder()


@pytest.mark.parametrize(
    "quirks",
    [
        {"sessions": 0},
        {"conflicts": 2},
        {"unavailable": 2},
        {"tasks": 3},
        {"tasks": 2, "task_forgets": True},
        {"etag": "strong"},
        {"etag": "weak"},
        {"power_unknown": 2},
        {"boot_late": 3},
        {"modes": ()},
        {"power_seconds": 0.4},
    ],
    ids=str,
)
def test_services_with_quirks_do_what_they_are_told(quirks):
    with emulated(**quirks) as bmc:
        result = order(bmc.target, NETWORK_ON)
        assert result.ok, result.error
        assert bmc.power == "On"
        assert bmc.sessions == {}


@pytest.mark.parametrize(
    ("quirks", "error", "words"),
    [
        ({"only_reads": True}, BmcRightsMissing, "may not set its boot order"),
        ({"conflicts": 99}, BmcRefused, "the machine is in POST (HTTP 409)"),
        ({"unavailable": 99}, BmcRefused, "the service is starting (HTTP 503)"),
        ({"tasks": 1, "task_fails": "Chassis is locked."}, BmcRefused, "Chassis is locked. (its task)"),
        ({"boot_ignored": True}, BmcIneffective, "still says 'default'"),
        ({"broken": CUT}, BmcGarbled, "an answer that makes no sense"),
        ({"broken": NESTED}, BmcGarbled, "an answer that makes no sense"),
        ({"broken": HUGE}, BmcGarbled, "an answer that makes no sense"),
        ({"power_unknown": 99}, BmcGarbled, "does not know the machine's power"),
        ({"modes": ("Legacy",)}, BmcUnsupported, "boots by Legacy only"),
        ({"power_seconds": 60}, BmcIneffective, "said ok to 'power on'"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value)[:40],
)
def test_what_goes_wrong_is_named(quirks, error, words):
    with emulated(**quirks) as bmc:
        result = order(replace(bmc.target, power_seconds=1), NETWORK_ON)
        assert type(result.error) is error, result.error
        assert words in str(result.error)
        assert PASSWORD not in str(result.error)
        bmc.quirks.unavailable = 0
        assert bmc.sessions == {}


def test_a_wrong_password_is_sent_once():
    with emulated() as bmc:
        result = order(replace(bmc.target, password="wrong"), Order())
        assert type(result.error) is BmcCredentialsWrong
        assert "invalid credentials" in str(result.error)
        assert bmc.logins_refused == 1


def test_a_full_table_of_sessions_keeps_nobody_out():
    with emulated(sessions=1) as bmc:
        bmc.sessions["somebody"] = "/redfish/v1/SessionService/Sessions/9"
        assert order(bmc.target, Order()).ok
        assert list(bmc.sessions) == ["somebody"]
        assert ask(bmc.target, lambda one: one.close_other_sessions()) == 1
        assert bmc.sessions == {}


def test_sensors_and_events():
    with emulated() as bmc:
        sensors = ask(bmc.target, lambda one: one.sensors())
        events = ask(bmc.target, lambda one: one.events())
    inlet = next(one for one in sensors if one.sensor == "Chassis Intake Temp")
    assert (inlet.kind, inlet.value, inlet.units, inlet.health) == ("Temperature", 25.0, "°C", "ok")
    assert {one.units for one in sensors} == {"°C", "RPM"}
    assert [(one.component, one.text, one.health) for one in events] == [
        ("Clock Time", "The clock was not set", "warning"),
        ("System Event", "System boot", "ok"),
        ("Memory", "Uncorrectable ECC, DIMM A4", "critical"),
    ]
    assert events[0].at is None
    assert events[2].at.isoformat() == "2026-03-07T14:45:00-05:00"


def test_the_lamp():
    with emulated() as bmc:
        assert ask(bmc.target, lambda one: one.identify(5)) is False
        assert bmc.led == "Lit"
        assert ask(bmc.target, lambda one: one.identify(0)) is True
        assert bmc.led == "Off"


@pytest.mark.parametrize("how", Restart)
def test_a_restart_of_the_bmc(how):
    with emulated() as bmc:
        ask(bmc.target, lambda one: one.restart(how))
        assert bmc.restarts == ["ForceRestart"]  # the only one that this one has
        assert order(bmc.target, Order()).ok


def test_the_ladder_brings_a_bmc_back():
    rungs = dict.fromkeys(Rung, 5.0)
    patience = Patience(backoff_seconds=(0.01,), rung_seconds=rungs, poll_seconds=0.01, gone_seconds=0.05)
    with emulated(boot_ignored=True) as bmc:

        async def heal():
            means = replace(SHORT, recover=True, patience=patience)

            def step(one):
                bmc.quirks.boot_ignored = one.rung is Rung.RETRY

            return await give([bmc.target], Order(boot=NETWORK_ONCE), means, tell_step=step)

        (result,) = asyncio.run(heal())
        assert result.ok, result.error
        assert [step.rung for step in result.steps] == [Rung.RETRY, Rung.WARM_RESET]


def test_a_console_is_not_there():
    async def attend(bmc):
        async with bmc.console():
            pass

    with emulated() as bmc, pytest.raises(BmcUnsupported, match="bmc_protocol: ipmi"):
        ask(bmc.target, attend)


def test_one_of_several_systems_must_be_named():
    with emulated(systems=(NODE, OTHER)) as bmc:
        result = order(bmc.target, Order())
        assert type(result.error) is BmcUnsupported
        assert f"set bmc_redfish_system to one of: {NODE}, {OTHER}" in str(result.error)
        assert order(replace(bmc.target, redfish_system=NODE), Order()).ok
        wrong = order(replace(bmc.target, redfish_system="node-1"), Order())
        assert "no system 'node-1'" in str(wrong.error)


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with emulated() as bmc:
            target = replace(bmc.target, redfish_url=url)
        result = order(target, Order())
    assert type(result.error) is BmcUnreachable
    assert not result.locked_up
    assert "TCP port" in str(result.error)
    assert "connection refused" in str(result.error)


def test_a_silent_one_is_left_at_the_deadline_and_its_session_closed(monkeypatch):
    monkeypatch.setattr(redfish, "ANSWER_SECONDS", 0.3)
    with emulated() as bmc:
        assert order(bmc.target, Order()).ok
        bmc.quirks.hang_seconds = 0.6
        assert type(order(bmc.target, Order()).error) is BmcSilent
        assert type(order(bmc.target, Order(), Means(0.1)).error) is BmcDeadline
        bmc.quirks.hang_seconds = 0
        assert bmc.sessions == {}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Make a certificate that signs itself, as BMCs come with; return its file and its key's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bmc")])
    now = dt.datetime.now(dt.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "bmc.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = serialization.NoEncryption()
    kept = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret)
    (folder / "key.pem").write_bytes(kept)
    return folder / "bmc.pem", folder / "key.pem"


def test_certificates(certificate):
    file, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    with emulated(tls=context) as bmc:
        target = replace(bmc.target, redfish_url=bmc.url.replace("127.0.0.1", "localhost"))
        refused = order(target, Order())
        assert type(refused.error) is BmcCertificateUntrusted, refused.error
        assert "certificate verify failed" in str(refused.error)
        assert not refused.locked_up
        assert order(replace(target, redfish_verify=str(file)), Order()).ok
        # Right authority, wrong name.
        other = order(replace(target, redfish_verify=str(file), redfish_url=bmc.url), Order())
        assert type(other.error) is BmcCertificateUntrusted
        assert order(replace(target, redfish_verify=False), Order()).ok


def test_what_a_bmc_speaks_is_found_out():
    with emulated() as bmc:
        target = replace(bmc.target, protocol=BmcProtocol.AUTO)
        assert asyncio.run(protocols.protocol_of(target)) is BmcProtocol.REDFISH
        asked = len(bmc.requests)
        assert asyncio.run(protocols.protocol_of(target)) is BmcProtocol.REDFISH
        assert len(bmc.requests) == asked
        assert order(target, Order(PowerOrder.ON)).ok
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = replace(target, redfish_url=f"http://127.0.0.1:{free.getsockname()[1]}")
        assert asyncio.run(protocols.protocol_of(closed)) is BmcProtocol.IPMI


def test_a_web_server_that_is_silent_now_is_asked_again(monkeypatch):
    monkeypatch.setattr(redfish, "ANSWER_SECONDS", 0.2)
    with emulated(hang_seconds=0.4) as bmc:
        target = replace(bmc.target, protocol=BmcProtocol.AUTO)
        assert asyncio.run(protocols.protocol_of(target)) is BmcProtocol.IPMI
        bmc.quirks.hang_seconds = 0
        assert asyncio.run(protocols.protocol_of(target)) is BmcProtocol.REDFISH


@pytest.mark.parametrize("body", [CUT, NESTED, HUGE, b"\xff"], ids=["cut", "nested", "huge", "bytes"])
def test_a_web_server_that_answers_nonsense_speaks_no_redfish(body):
    with emulated(broken=body, broken_at=ROOT) as bmc:
        assert asyncio.run(redfish.speaks_redfish(bmc.target)) is False


@pytest.mark.parametrize("body", [CUT, NESTED, HUGE], ids=["cut", "nested", "huge"])
def test_resources_that_are_nonsense_are_named(body):
    with emulated(broken=body, broken_at=f"{SYSTEM}/LogServices") as bmc:
        with pytest.raises(BmcGarbled, match="to 'tell its events'"):
            ask(bmc.target, lambda one: one.events())
        assert bmc.sessions == {}
