import socket
from pathlib import Path

import pytest

LISTEN = "import socket, time; s = socket.create_server(('127.0.0.1', {port})); print('ready', flush=True); time.sleep(600)"


@pytest.fixture
def preflight(plugin):
    return plugin("lab_preflight")


def test_names_who_holds_a_port_and_what_to_do(preflight, spawn, free_port, tmp_path):
    holder = spawn(LISTEN.format(port=free_port), service="x", state_dir=tmp_path / "other")
    (problem,) = preflight.port_problems({"mariadb": free_port}, "127.0.0.1", str(tmp_path))
    assert f"port {free_port} on 127.0.0.1, which mariadb needs, is taken by python" in problem
    assert f"(process {holder.pid})" in problem
    assert "perfci_port_base" in problem


def test_a_port_that_we_hold_ourselves_is_fine(preflight, spawn, free_port, tmp_path):
    spawn(LISTEN.format(port=free_port), service="mariadb")
    assert list(preflight.port_problems({"mariadb": free_port}, "127.0.0.1", str(tmp_path))) == []


def test_a_listener_on_all_addresses_takes_the_port_too(preflight, tmp_path):
    with socket.create_server(("0.0.0.0", 0)) as server:  # noqa: S104
        port = server.getsockname()[1]
        assert len(list(preflight.port_problems({"glance": port}, "127.0.0.1", str(tmp_path)))) == 1


def test_free_ports_are_fine(preflight, free_port, tmp_path):
    assert list(preflight.port_problems({"glance": free_port}, "127.0.0.1", str(tmp_path))) == []


def test_tells_all_that_the_machine_lacks_at_once(preflight, tmp_path):
    problems = list(preflight.machine_problems(tmp_path / "new", ["plan9 4"], 1e6, 1e6))
    assert len(problems) == 3
    assert "plan9 4" in problems[0]
    assert "1e+06 are needed" in problems[1]
    assert "perfci_state_dir" in problems[2]


def test_this_machine_is_enough_for_nothing(preflight, tmp_path):
    assert list(preflight.machine_problems(tmp_path / "new", [preflight.distribution()], 0, 0)) == []


@pytest.mark.parametrize("folder", ["/srv/with space/state", "/srv/" + 90 * "x"])
def test_refuses_paths_that_sockets_cannot_have(preflight, folder):
    (problem,) = preflight.machine_problems(Path(folder), [], 0, 0)
    assert "another folder" in problem
