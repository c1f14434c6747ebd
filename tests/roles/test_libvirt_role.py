"""libvirt as the role runs it: really, with its folders in a mount namespace of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from programs import needs, needs_root

pytestmark = [
    pytest.mark.slow,
    needs_root,
    needs(
        "libvirtd", "/usr/lib/python3/dist-packages/libvirt.py", "qemu-system-x86_64", "unshare", "nsenter"
    ),
]
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PRIVATE = """
set -e
mount -t tmpfs tmpfs "$1"
for folder in etc var/lib var/cache var/log; do
    mkdir -p "$1/$folder/up" "$1/$folder/work"
    mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$1/$folder/up,workdir=$1/$folder/work" "/$folder"
done
mount -t tmpfs tmpfs /run
echo ready
exec sleep 600
"""
"""What the role writes outside of its state folder vanishes with the namespace."""
DOMAIN = """
import sys, libvirt
connection = libvirt.open("qemu:///system")
domain = connection.defineXML('''
<domain type="qemu"><name>server</name><memory unit="MiB">32</memory>
<os><type arch="x86_64">hvm</type></os>
<devices><serial type="pty"><log file="%s/console.log"/></serial></devices></domain>''' % sys.argv[1])
domain.create()
print(domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING)
"""
DOMAINS = "import libvirt; print([d.name() for d in libvirt.open('qemu:///system').listAllDomains()])"


class Machine:
    """A mount namespace, held open by a process that sleeps."""

    def __init__(self, folder):
        self.folder = folder
        self.state = folder / "state"
        (folder / "private").mkdir()
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", PRIVATE, "sh"]
        self.holder = subprocess.Popen([*command, str(folder / "private")], stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout.readline() == "ready\n"

    def run(self, *words):
        inside = ["nsenter", "--target", str(self.holder.pid), "--mount", *map(str, words)]
        return subprocess.run(inside, check=False, capture_output=True, text=True, timeout=110)

    def python(self, script, *words):
        done = self.run("/usr/bin/python3", "-c", script, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def play(self, role="libvirt", verb="main", *, extra=None, **variables):
        hosts = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "perfci_state_dir": str(self.state),
            "service_manager": "supervisor",
            "service_supervisord": str(BIN / "supervisord"),
            "libvirt_virt_type": "qemu",
            **variables,
        }
        (self.folder / "hosts.yml").write_text(yaml.safe_dump({"cloud": {"hosts": {"node-1": hosts}}}))
        tasks = [
            {**role_task("service", "start"), "when": False},
            role_task(role, verb),
        ]
        (self.folder / "play.yml").write_text(
            yaml.safe_dump([{"name": "Try", "hosts": "cloud", "tasks": tasks}])
        )
        environment = [f"ANSIBLE_CONFIG={ROOT / 'ansible.cfg'}", f"ANSIBLE_HOME={self.folder / 'ansible'}"]
        command = [BIN / "ansible-playbook", "-i", self.folder / "hosts.yml", self.folder / "play.yml"]
        return self.run("env", *environment, *command, "-e", json.dumps(extra or {}))

    def servers(self):
        """Return the environments of the processes that are QEMU's and ours."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "comm").read_text().startswith("qemu-system"):
                    text = (process / "environ").read_text()
                    found.append(dict(pair.split("=", 1) for pair in text.split("\0") if "=" in pair))
            except OSError:
                continue
        return [one for one in found if one.get("PERFCI_STATE_DIR") == str(self.state)]


def role_task(role, verb):
    return {"name": f"{role} {verb}", "ansible.builtin.import_role": {"name": role, "tasks_from": verb}}


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    yield made
    stopped = made.play("service", "stop")
    made.holder.kill()
    made.holder.wait()
    made.holder.stdout.close()
    assert stopped.returncode == 0, stopped.stdout


def well(done):
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(400)
def test_a_server_runs_is_counted_ends_with_the_service_and_is_forgotten(machine):
    well(machine.play())
    assert machine.python(DOMAIN, machine.state) == "True"
    assert [one["PERFCI_SERVICE"] for one in machine.servers()] == ["qemu"]
    well(machine.play("service", "stop"))
    assert not machine.servers()
    assert (machine.state / "console.log").exists(), "QEMU itself wrote it"
    well(machine.play())
    assert machine.python(DOMAINS) == "[]"
    names = {path.name.split(".")[0] for path in (machine.state / "libvirt/python").iterdir()}
    assert names == {"libvirt", "libvirtmod"}, "of all that Debian has for Python, services get no more"


def test_a_machine_without_the_means_is_told_so(machine):
    done = machine.play(
        verb="look", libvirt_virt_type="kvm", extra={"libvirt_kvm": {"stat": {"exists": False}}}
    )
    assert done.returncode != 0
    assert "libvirt_virt_type is kvm, and this machine has no /dev/kvm" in " ".join(done.stdout.split())
