"""Ansible loads modules by their path; so do these tests."""

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"


def _load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# Under the name that the modules import it by once Ansible has packed them.
lab_processes_module = _load(
    "ansible.module_utils.lab_processes", PLUGINS / "module_utils" / "lab_processes.py"
)
addresses_module = _load("ansible.module_utils.addresses", PLUGINS / "module_utils" / "addresses.py")
bmc_nodes_module = _load("ansible.module_utils.bmc_nodes", PLUGINS / "module_utils" / "bmc_nodes.py")
smbios_module = _load("ansible.module_utils.smbios", PLUGINS / "module_utils" / "smbios.py")


kernel_files_module = _load("ansible.module_utils.kernel_files", PLUGINS / "module_utils" / "kernel_files.py")
whole_files_module = _load("ansible.module_utils.whole_files", PLUGINS / "module_utils" / "whole_files.py")


@pytest.fixture(scope="session")
def kernel_files():
    return kernel_files_module


@pytest.fixture(scope="session")
def plugin():
    """Return a function that loads one of our Ansible modules."""
    return lambda name: _load(f"perfci_plugin_{name}", PLUGINS / "modules" / f"{name}.py")


@pytest.fixture
def lab_processes():
    return lab_processes_module


@pytest.fixture(scope="session")
def addresses():
    return addresses_module


@pytest.fixture(scope="session")
def smbios():
    return smbios_module


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def spawn(tmp_path):
    """Start Python processes that carry the marks of a lab, and leave none behind."""
    running = []

    def start(code, *, service="", run="", state_dir=tmp_path):
        more = {"PERFCI_SERVICE": service, "PERFCI_RUN": run}
        marks = {"PERFCI_STATE_DIR": str(state_dir), **{name: value for name, value in more.items() if value}}
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={"PATH": os.environ["PATH"], **marks},
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
