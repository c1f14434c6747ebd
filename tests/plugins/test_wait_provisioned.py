import asyncio
import json
import socketserver
import threading

import pytest

from perfci.lab.bmc.base import Power, PowerOrder
from perfci.lab.bmc.memory import Rack


@pytest.fixture
def module(plugin):
    return plugin("wait_provisioned")


def report(step, text="", attempt="a1", time=1.0):
    return {"time": time, "attempt": attempt, "step": step, "text": text}


# --- the decision --------------------------------------------------------------------------------------------


def test_a_goal_is_reached_by_its_report_alone(module):
    view = module.View(reports=[report("ramdisk"), report("image")])
    assert module.reached("ramdisk", view)
    assert not module.reached("deployed", view)
    assert not module.reached("ssh", view)


def test_ssh_is_reached_by_its_answer_alone(module):
    assert module.reached("ssh", module.View(ssh=True))
    assert not module.reached("ssh", module.View(reports=[report("deployed")]))


def test_nothing_is_refused_while_there_is_hope(module):
    view = module.View(reports=[report("image")], silent_seconds=299)
    view.see_power(Power.ON)
    assert module.refusal("deployed", view, 300) == ""


def test_a_reported_failure_is_quoted(module):
    view = module.View(reports=[report("ramdisk"), report("failed", "no disk fits the rule")])
    assert module.refusal("deployed", view, 300) == "its deployment failed: no disk fits the rule"


def test_of_several_failures_the_last_is_quoted(module):
    view = module.View(
        reports=[report("failed", "no disk"), report("ramdisk"), report("failed", "disk full")]
    )
    assert module.refusal("deployed", view, 300) == "its deployment failed: disk full"


def test_a_machine_that_is_off_is_not_waited_for(module):
    view = module.View(reports=[report("image", "writing")])
    view.see_power(Power.OFF)
    assert module.refusal("deployed", view, 300) == "", "it may look off for a moment while it resets"
    view.see_power(Power.OFF)
    told = module.refusal("deployed", view, 300)
    assert "its BMC says off" in told
    assert "'image' (writing)" in told


def test_readings_of_off_must_follow_each_other(module):
    view = module.View()
    for power in (Power.OFF, Power.ON, Power.OFF, None, Power.OFF):
        view.see_power(power)
    assert module.refusal("ssh", view, 300) == ""


def test_silence_has_an_end_and_says_what_was_waited_for(module):
    view = module.View(silent_seconds=300)
    view.see_power(Power.ON)
    told = module.refusal("ramdisk", view, 300)
    assert told == (
        "a first report from the deploy ramdisk did not come within 300 s; it has reported nothing, its BMC says on"
    )


def test_a_silent_bmc_is_told_and_proves_nothing(module):
    view = module.View(silent_seconds=300)
    view.see_power(None, "node-1: the BMC at x does not answer")
    assert "its BMC did not answer: node-1: the BMC at x" in module.refusal("ssh", view, 300)


# --- what it reads -------------------------------------------------------------------------------------------


def test_only_whole_lines_of_the_attempt_count(module, tmp_path):
    file = tmp_path / "node-1.jsonl"
    assert module.reports_of(file, "a1") == []
    lines = [json.dumps(report("ramdisk", attempt="a0")), "", "garbage", "[]", json.dumps(report("ramdisk"))]
    file.write_text("\n".join(lines) + "\n" + json.dumps(report("image"))[:-5])
    assert [one["step"] for one in module.reports_of(file, "a1")] == ["ramdisk"]
    file.write_bytes(b"\xff\xfe\n")
    assert module.reports_of(file, "a1") == []


@pytest.mark.parametrize(
    ("log", "hint"),
    [
        ([], "has not heard of it"),
        (["dhcp: DHCPDISCOVER(br-prov) 52:54:00:aa:bb:02 ignored"], "has not heard of it"),
        (["dhcp: DHCPDISCOVER(br-prov) 52:54:00:aa:bb:01 no address available"], "no address available"),
        (["dhcp: DHCPDISCOVER(br-prov) 52:54:00:AA:BB:01 no address available"], "no address available"),
        (["dhcp: DHCPACK(br-prov) 192.168.240.11 52:54:00:aa:bb:01 node-1"], "not as iPXE does"),
        (
            [
                "dhcp: 1 tags: node-1, known, ipxe, br-prov",
                "dhcp: 1 DHCPACK(br-prov) 52:54:00:aa:bb:01 node-1",
            ],
            "where its boot script is",
        ),
        (
            [
                "dhcp: 1 tags: node-2, known, ipxe, br-prov",
                "dhcp: 2 DHCPACK(br-prov) 52:54:00:aa:bb:01 node-1",
            ],
            "not as iPXE does",
        ),
    ],
)
def test_the_dhcp_log_tells_how_far_it_came(module, log, hint):
    for mac in ("52:54:00:AA:BB:01", "52-54-00-aa-bb-01"):
        assert hint in module.dhcp_hint(log, "node-1", mac)


# --- the whole -----------------------------------------------------------------------------------------------


class Lab:
    """Machines with BMCs in memory; reports are written by the test."""

    def __init__(self, module, folder):
        self.module, self.folder = module, folder
        self.rack = Rack()

    def params(self, goal, *names, **params):
        return {
            "goal": goal,
            "nodes": [self.node(name) for name in names],
            "reports": str(self.folder),
            "dhcp_log": None,
            "dhcp_log_begin": 0,
            "silence_seconds": 20,
            "poll_seconds": 0.01,
            **params,
        }

    def wait(self, goal, *names, **params):
        return asyncio.run(self.module.watch_all(self.params(goal, *names, **params)))

    def node(self, name):
        return {
            "name": name,
            "attempt": "a1",
            "since": 0.0,
            "mac": "52:54:00:aa:bb:01",
            "ssh_address": "127.0.0.1",
            "ssh_port": self.ssh_port,
            "address": name,
            "port": 623,
            "username": "u",
            "password": "p",
            "cipher_suite": 17,
            "power_seconds": 120,
            "outlet": None,
            "outlet_command": None,
            "protocol": "ipmi",
            "redfish_url": None,
            "redfish_system": None,
            "redfish_verify": True,
        }

    ssh_port = 1

    def report(self, name, *reports):
        with (self.folder / f"{name}.jsonl").open("a") as target:
            target.writelines(json.dumps(one) + "\n" for one in reports)


@pytest.fixture
def lab(module, tmp_path, monkeypatch):
    lab = Lab(module, tmp_path)
    monkeypatch.setattr(module.protocols, "connect", lab.rack.connect)
    monkeypatch.setattr(module, "TICK_SECONDS", 0.01)
    return lab


def on(rack, *names):
    for name in names:
        rack.bmc(name).on = True


def test_each_machine_is_judged_by_itself(lab):
    on(lab.rack, "node-1", "node-3")
    lab.report("node-1", report("ramdisk"), report("deployed"))
    lab.report("node-3", report("ramdisk"), report("failed", "disk full"))
    found = lab.wait("deployed", "node-1", "node-2", "node-3")
    assert [found[name]["ok"] for name in ("node-1", "node-2", "node-3")] == [True, False, False]
    assert found["node-1"]["error"] is None
    assert found["node-1"]["seconds"] == 1.0, "when it was reported, and not when it was read"
    assert [one["step"] for one in found["node-1"]["reports"]] == ["ramdisk", "deployed"]
    assert "its BMC says off" in found["node-2"]["error"]
    assert "disk full" in found["node-3"]["error"]


def test_a_machine_took_from_the_begin_of_its_attempt_to_the_first_report_of_its_goal(lab, module):
    on(lab.rack, "node-1")
    reports = (report("ramdisk", time=11.0), report("deployed", time=13.5), report("deployed", time=20.0))
    lab.report("node-1", *reports)
    node = {**lab.node("node-1"), "since": 10.0}
    found = asyncio.run(module.Watch(node, lab.params("deployed")).run())
    assert found["seconds"] == 3.5


def test_a_machine_that_reports_its_failure_and_switches_itself_off_is_quoted(lab, module, monkeypatch):
    """Both happen between two looks: its report is read after its power."""
    readings = []

    async def read_power(watch):
        readings.append("off")
        if len(readings) == module.OFF_READINGS:
            lab.report("node-1", report("failed", "disk full"))
        watch.view.see_power(Power.OFF)

    monkeypatch.setattr(module.Watch, "_read_power", read_power)
    found = asyncio.run(module.Watch(lab.node("node-1"), lab.params("deployed", poll_seconds=0)).run())
    assert found["error"] == "its deployment failed: disk full"


def test_a_bmc_that_hangs_does_not_stop_a_machine_that_comes(lab):
    lab.rack.bmc("node-1").sickness.hang = True
    threading.Timer(0.2, lab.report, ("node-1", report("ramdisk"))).start()
    assert lab.wait("ramdisk", "node-1")["node-1"]["ok"]


def test_each_report_gives_a_machine_its_whole_time_again(lab, module, monkeypatch):
    """With a report every 200 s it is waited for, however long that takes; 300 s of silence end it."""
    on(lab.rack, "node-1")
    now, steps = [0.0], ["ramdisk", "image", "packages", "boot"]

    async def sleep(_seconds):
        now[0] += 200
        if steps:
            lab.report("node-1", report(steps.pop(0)))

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    params = {"goal": "deployed", "reports": str(lab.folder), "dhcp_log": None, "dhcp_log_begin": 0}
    watch = module.Watch(lab.node("node-1"), {**params, "silence_seconds": 300, "poll_seconds": 1e9})
    found = asyncio.run(watch.run(lambda: now[0]))
    assert not found["ok"]
    assert [one["step"] for one in found["reports"]] == ["ramdisk", "image", "packages", "boot"]
    assert "'boot'" in found["error"]
    assert now[0] == 1200, "800 s with reports, and 400 s until the silence was seen"


def test_who_waits_for_its_turn_is_not_silent(lab, module, monkeypatch):
    """The controller lets it wait for its image; its own time begins when it is its turn."""
    on(lab.rack, "node-1")
    lab.report("node-1", report("ramdisk"), report("image"), report("queued"))
    now = [0.0]

    async def sleep(_seconds):
        now[0] += 200
        if now[0] == 1000:
            lab.report("node-1", report("turn"))

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    params = {"goal": "deployed", "reports": str(lab.folder), "dhcp_log": None, "dhcp_log_begin": 0}
    watch = module.Watch(lab.node("node-1"), {**params, "silence_seconds": 300, "poll_seconds": 1e9})
    assert not asyncio.run(watch.run(lambda: now[0]))["ok"]
    assert now[0] == 1400


def test_each_machine_may_have_a_patience_of_its_own(lab, module, monkeypatch):
    on(lab.rack, "node-1")
    now = [0.0]

    async def sleep(_seconds):
        now[0] += 100

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    params = {"goal": "ramdisk", "reports": str(lab.folder), "dhcp_log": None, "dhcp_log_begin": 0}
    node = {**lab.node("node-1"), "silence_seconds": 900.0}
    watch = module.Watch(node, {**params, "silence_seconds": 300, "poll_seconds": 1e9})
    found = asyncio.run(watch.run(lambda: now[0]))
    assert now[0] == 900
    assert "within 900 s" in found["error"]


def test_a_silent_machine_gets_a_hint_from_the_dhcp_log(lab, tmp_path):
    on(lab.rack, "node-1")
    earlier = "dhcp: DHCPACK(br-prov) 192.168.240.11 52:54:00:aa:bb:01 node-1\n"
    (tmp_path / "dhcp.log").write_text(earlier + "now\n")
    found = lab.wait(
        "ramdisk",
        "node-1",
        silence_seconds=0.2,
        dhcp_log=str(tmp_path / "dhcp.log"),
        dhcp_log_begin=len(earlier),
    )
    assert "has not heard of it" in found["node-1"]["error"]


def hinted(lab, module, **params):
    """Return what the module reports about a machine that never says anything, without waiting for it."""
    on(lab.rack, "node-1")
    watch = module.Watch(lab.node("node-1"), lab.params("deployed", silence_seconds=1e-9, **params))
    return asyncio.run(watch.run())["error"]


def test_what_is_never_reported_took_until_now(lab, module, monkeypatch):
    on(lab.rack, "node-1")
    monkeypatch.setattr(module.time, "time", lambda: 50.0)
    node = {**lab.node("node-1"), "since": 10.0}
    found = asyncio.run(module.Watch(node, lab.params("deployed", silence_seconds=1e-9)).run())
    assert (found["ok"], found["seconds"]) == (False, 40.0)


def test_a_dhcp_log_that_is_shorter_than_it_was_is_read_from_its_begin(lab, module, tmp_path):
    log = tmp_path / "dhcp.log"
    log.write_text("dhcp: DHCPACK(br-prov) 192.168.240.11 52:54:00:aa:bb:01 node-1\n")
    told = hinted(lab, module, dhcp_log=str(log), dhcp_log_begin=10**6)
    assert "not as iPXE does" in told


def test_a_dhcp_log_that_can_not_be_read_gives_no_hint(lab, module, tmp_path):
    told = hinted(lab, module, dhcp_log=str(tmp_path / "missing.log"))
    assert told.endswith("it has reported nothing, its BMC says on")


def test_a_machine_that_has_reported_needs_no_hint_from_the_dhcp_log(lab, module, tmp_path):
    log = tmp_path / "dhcp.log"
    log.write_text("")
    lab.report("node-1", report("ramdisk", "up"))
    told = hinted(lab, module, dhcp_log=str(log))
    assert told.endswith("its last report was 'ramdisk' (up), its BMC says on")


@pytest.mark.parametrize(
    ("greeting", "ok"), [(b"SSH-2.0-OpenSSH_9.2\r\n", True), (b"220 mail\r\n", False), (b"", False)]
)
def test_only_an_ssh_server_is_an_ssh_server(lab, greeting, ok):
    on(lab.rack, "node-1")

    class Greeter(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.sendall(greeting)

    with socketserver.TCPServer(("127.0.0.1", 0), Greeter) as server:
        lab.ssh_port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            found = lab.wait("ssh", "node-1", silence_seconds=0.5)["node-1"]
        finally:
            server.shutdown()
            thread.join()
    assert found["ok"] is ok


def test_a_machine_that_is_switched_off_while_we_wait(lab):
    on(lab.rack, "node-1")
    bmc = lab.rack.bmc("node-1")
    threading.Timer(0.2, setattr, (bmc, "on", False)).start()
    assert (
        "its BMC says off while an answer of its SSH server" in lab.wait("ssh", "node-1")["node-1"]["error"]
    )
    assert PowerOrder.ON not in bmc.presses, "it is only watched"
    assert bmc.sessions == 0
