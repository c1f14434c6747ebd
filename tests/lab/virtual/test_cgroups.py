"""Control groups, as the kernel lists them and for real."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import needs_root
from virtual_labs import until

from perfci.lab.virtual import cgroups
from perfci.lab.virtual.errors import HostCommandFailed

VERSION_2 = "26 23 0:23 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = """\
30 23 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/systemd rw shared:3 - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 30 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
35 23 0:27 / /elsewhere rw - cgroup2 cgroup2 rw
"""


def hierarchies(tmp_path, text):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(text)
    return [str(path) for path in cgroups.hierarchies(mounts)]


def test_one_hierarchy_of_version_2(tmp_path):
    assert hierarchies(tmp_path, VERSION_2) == ["/sys/fs/cgroup"]


def test_each_hierarchy_once_and_no_cpuset(tmp_path):
    assert hierarchies(tmp_path, HYBRID) == [
        "/sys/fs/cgroup/cpu,cpuacct",
        "/sys/fs/cgroup/systemd",
        "/sys/fs/cgroup/unified",
    ]


def test_a_machine_without_control_groups_is_told(tmp_path):
    (tmp_path / "mountinfo").write_text("30 23 0:26 / / rw - ext4 /dev/vda rw\n")
    with pytest.raises(HostCommandFailed, match="no hierarchy is mounted"):
        cgroups.make("pci-test", tmp_path / "mountinfo")


@pytest.fixture
def group():
    name = f"pci-test{os.getpid()}"
    yield name
    cgroups.clear(name)
    assert cgroups.existing(name) == ()


@needs_root
def test_everything_that_is_forked_is_found_and_ended(group):
    folders = cgroups.make(f"{group}/node-1")
    forks = "import os, sys\nif os.fork(): sys.exit()\nos.setsid()\nos.fork()\nos.write(1, b'up\\n')\nimport time; time.sleep(60)"
    command = cgroups.entering(folders, [sys.executable, "-c", forks])
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == process.stdout.readline() == b"up\n"
        until(lambda: len(cgroups.members(group)) == 2)  # the first one may still be ending
        found = cgroups.members(group)
        assert found == cgroups.members(f"{group}/node-1")
        cgroups.clear(group)
    assert not any(Path(f"/proc/{pid}/exe").exists() for pid in found)


@needs_root
def test_a_group_with_groups_of_its_own_is_removed_whole(group):
    for folder in cgroups.make(group):
        (folder / "payload" / "system.slice").mkdir(parents=True)
    cgroups.clear(group)
    assert cgroups.existing(group) == ()
    cgroups.clear(group)


@needs_root
def test_a_group_that_was_removed_meanwhile_takes_nobody_in(group):
    folders = cgroups.make(group)
    cgroups.clear(group)
    done = subprocess.run(cgroups.entering(folders, ["echo", "ran"]), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (125, b"")
