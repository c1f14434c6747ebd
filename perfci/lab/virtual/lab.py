"""A virtual lab as a whole: made, looked at, spoilt, removed. This and `plan` are all that others import.

All that changes something takes a lock on the state folder, so that two commands at once don't spoil each
other's work. A command that was killed leaves a half-made lab; the next `up` or `down` removes it first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import select
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from perfci.files import write_json
from perfci.lab.virtual import cgroups, control, faults, inventory, remains, site
from perfci.lab.virtual.errors import (
    HostCommandFailed,
    ProgramsMissing,
    RootNeeded,
    VirtualInventoryTaken,
    VirtualLabBroken,
    VirtualLabDiffers,
    VirtualLabDown,
    VirtualPathTooLong,
)
from perfci.lab.virtual.folders import LabFolder
from perfci.lab.virtual.plan import Firmware, MachineKind, Plan, site_name
from perfci.lab.virtual.qemu import EFI_CODE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from perfci.lab.virtual.remains import Remains

PROGRAMS = {
    MachineKind.NULL: ("ip", "nsenter", "setsid"),
    MachineKind.NSPAWN: ("ip", "nsenter", "setsid", "dnsmasq", "unshare", "systemd-nspawn", "busybox"),
    MachineKind.QEMU: ("ip", "nsenter", "setsid", "dnsmasq", "qemu-system-x86_64", "qemu-img"),
}
"""What must be there already, as nothing can be installed from inside the lab's network."""
BMC_PASSWORD_CHARACTERS = 16
"""IPMI 2.0 has room for 20, and some tools take 16; see 22.30 of its specification."""
SOCKET_PATH_BYTES = 107
"""unix(7): the path of a socket has 108 bytes, the last one is zero."""
START_SECONDS = 60.0
LOG_LINES = 12


def up(plan: Plan) -> dict[str, Any]:
    """Make the lab, or find it up as it is wanted; return its status.

    Raises RootNeeded, ProgramsMissing, VirtualLabTooLarge, VirtualPathTooLong, VirtualLabDiffers,
    VirtualInventoryTaken, HostCommandFailed or VirtualLabBroken; of a lab that can't be made, nothing stays.
    """
    _check(plan)
    folder = LabFolder.of(plan.state_dir)
    plan.state_dir.mkdir(parents=True, exist_ok=True)
    with _locked(plan.state_dir):
        now = _answer(folder)
        if now is None:
            remains.remove(plan.state_dir, plan.project)
            now = _made(plan, folder)
        elif now["plan"] != plan.as_dict():
            there = Plan.from_dict(now["plan"])
            raise VirtualLabDiffers(found=there.describe(), wanted=plan.describe())
        inventory.write(plan, folder)
        return now


def down(state_dir: Path, project: Path) -> Remains:
    """End the lab and remove everything of it, also what a killed one has left; return what there was.

    Raises RootNeeded, or HostCommandFailed where something can't be removed.
    """
    _need_root("down")
    if not state_dir.is_dir():
        return remains.remove(state_dir, project)
    with _locked(state_dir):
        return remains.remove(state_dir, project)


def left(state_dir: Path, project: Path) -> Remains:
    """Return what there is of a virtual lab, up or killed, without touching it."""
    return remains.find(state_dir, project)


def sweep(state_dir: Path, project: Path) -> Remains | None:
    """Remove what a killed lab has left; None where there was nothing, or where the lab is well.

    Raises HostCommandFailed where something can't be removed. Without root, nothing is done.
    """
    if os.geteuid() or not state_dir.is_dir():
        return None
    with _locked(state_dir):
        if _answer(LabFolder.of(state_dir)) is not None:
            return None
        return remains.remove(state_dir, project) or None


def status(state_dir: Path) -> dict[str, Any]:
    """Return the lab's plan, namespace and nodes. Raises VirtualLabDown, VirtualLabBroken or RootNeeded."""
    return _asked(state_dir, do="status")


def set_faults(state_dir: Path, node: str, words: Sequence[str]) -> dict[str, Any]:
    """Give a node faults, as typed; return its status.

    Raises FaultInvalid, VirtualLabDown, VirtualLabBroken, or RequestRefused with the lab's own words.
    """
    return _node(_asked(state_dir, do="fault", node=node, faults=faults.parsed(words)))


def clear_faults(state_dir: Path, node: str) -> dict[str, Any]:
    """End all faults of a node; return its status. Raises as `set_faults` does."""
    return _node(_asked(state_dir, do="clear", node=node))


def cycle_outlet(state_dir: Path, node: str) -> dict[str, Any]:
    """Cut a node's mains and give them back, as an outlet of a PDU does; return its status."""
    return _node(_asked(state_dir, do="outlet", node=node))


def entering(state_dir: Path) -> list[str]:
    """Return the beginning of a command line that runs a command in the lab's network.

    Raises VirtualLabDown where there is no such network.
    """
    name = site_name(state_dir)
    if name not in site.names(name):
        raise VirtualLabDown(state_dir=state_dir)
    return site.entering(name)


@contextlib.contextmanager
def inside(state_dir: Path) -> Iterator[None]:
    """Move this thread, and threads that it starts, into the lab's network until the end of the block.

    Raises VirtualLabDown, or RootNeeded.
    """
    name = site_name(state_dir)
    if name not in site.names(name):
        raise VirtualLabDown(state_dir=state_dir)
    if os.geteuid():
        raise RootNeeded(what="the network of a virtual lab")
    with site.inside(name):
        yield


# --- up ------------------------------------------------------------------------------------------


def _check(plan: Plan) -> None:
    """Refuse what can't become a lab, before anything is done."""
    _need_root("up")
    tuple(plan.nodes)
    missing = [program for program in PROGRAMS[plan.kind] if not shutil.which(program)]
    if plan.kind is MachineKind.QEMU and Firmware.UEFI in plan.firmwares and not EFI_CODE.exists():
        missing.append(str(EFI_CODE))
    if missing:
        raise ProgramsMissing(programs=", ".join(missing))
    folder = LabFolder.of(plan.state_dir)
    if len(os.fsencode(folder.control)) > SOCKET_PATH_BYTES:
        raise VirtualPathTooLong(path=folder.control, limit=SOCKET_PATH_BYTES)
    owner = inventory.owner(plan.project)
    if owner is not None and owner != folder.root and owner.exists():
        raise VirtualInventoryTaken(file=inventory.file_of(plan.project), folder=owner)


def _made(plan: Plan, folder: LabFolder) -> dict[str, Any]:
    """Make the lab; of one that does not come up, remove everything."""
    try:
        folder.root.mkdir(mode=0o700)
        write_json(folder.plan, plan.as_dict())
        _write_secret(folder.bmc_password, secrets.token_hex(BMC_PASSWORD_CHARACTERS // 2))
        site.make(plan)
        _start(plan, folder)
        return _asked(plan.state_dir, do="status")
    except BaseException:
        with contextlib.suppress(HostCommandFailed):
            remains.remove(plan.state_dir, plan.project)
        raise


def _write_secret(file: Path, text: str) -> None:
    """Write a file that nobody else could read at any time."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as target:
        target.write(text)


def _start(plan: Plan, folder: LabFolder) -> None:
    """Start the lab's process, apart from this one, and wait until it is up. Raises VirtualLabBroken."""
    reading, writing = os.pipe()
    program = [sys.executable, "-m", "perfci.lab.virtual.daemon", str(folder.root), str(writing)]
    within = cgroups.entering(cgroups.make(f"{plan.site}/daemon"), [*site.entering(plan.site), *program])
    marks = {remains.MARK: str(plan.state_dir), remains.SERVICE: remains.NAME}
    with os.fdopen(reading, "rb") as ready:
        with os.fdopen(writing, "wb"), folder.log.open("ab") as log:
            subprocess.run(
                ["setsid", "--fork", *within],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **marks},
                cwd="/",
                pass_fds=[writing],
                check=False,
            )
        # The lab's process writes a byte when it is up; where it ends before, there is an end without a byte.
        late = not select.select([ready], [], [], START_SECONDS)[0]
        if late or not ready.read(1):
            reason = f"it is not up after {START_SECONDS:.0f} s" if late else _last_words(folder)
            raise VirtualLabBroken(what="did not start", reason=reason, log=folder.log)


def _last_words(folder: LabFolder) -> str:
    lines = folder.log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-LOG_LINES:]) or "it ended without a word"


# --- all -----------------------------------------------------------------------------------------


def _answer(folder: LabFolder) -> dict[str, Any] | None:
    """Return the lab's status; None where it is down, or broken."""
    try:
        return control.ask(folder, do="status")
    except VirtualLabBroken:
        return None


def _asked(state_dir: Path, **request: Any) -> dict[str, Any]:
    folder = LabFolder.of(state_dir)
    answer = control.ask(folder, **request)
    if answer is not None:
        return answer
    if folder.root.exists():
        raise VirtualLabBroken(what="does not run any more", reason="it was killed", log=folder.log)
    raise VirtualLabDown(state_dir=state_dir)


def _node(answer: dict[str, Any]) -> dict[str, Any]:
    node: dict[str, Any] = answer["node"]
    return node


def _need_root(command: str) -> None:
    if os.geteuid():
        raise RootNeeded(what=f"`perfci virtual {command}`")


@contextlib.contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    """Wait until no other command works on the lab of this state folder."""
    descriptor = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
