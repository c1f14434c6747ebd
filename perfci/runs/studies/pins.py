"""The pins that a cloud is deployed from: exact versions, and how one of them is moved.

They stand in `roles/openstack_code/files/constraints.txt`, one `name==version` a line. What is installed is
in the defaults of the same role. A moved pin is accepted only where the set still resolves and still has a
pin for everything: else two deployments from one file could differ.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perfci.errors import LabError, ServiceError, UsageError
from perfci.files import write_whole
from perfci.parsing import yaml_value
from perfci.runs.state.digests import digest
from perfci.validation import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

ROLE = Path("roles/openstack_code")
CONSTRAINTS = ROLE / "files/constraints.txt"
SERVICES = ("keystone", "openstack-placement", "glance", "nova", "neutron")
"""The services' distributions: what is installed first of all; see plugins/modules/openstack_venv.py."""
RESOLVE_SECONDS = 600
_PIN = re.compile(r"^(?P<before>\s*(?P<name>[A-Za-z0-9][\w.-]*)\s*==\s*)(?P<version>[^\s;#]+)(?P<after>.*)$")
_VERSION = re.compile(r"^[0-9][0-9A-Za-z.!+_-]*$")
_UNSOLVABLE = "No solution found"


class PinUnknown(UsageError):
    """No pin of that name is in the constraints."""

    template = "{file} has no pin of {name!r}; {suggestion}"
    help = "`perfci pins show` lists all of them."


class PinVersionInvalid(UsageError):
    """The new version of a pin is not exact, or is the present one."""

    template = "{name}=={version}: {reason}"
    help = "Give another exact version, such as `perfci pins bump {name} 1.2.3`; the pin is at {now}."


class PinsConflict(UsageError):
    """With the moved pin, the set does not resolve; nothing was changed."""

    template = "with {name}=={version} the pins don't resolve:\n{reason}"
    help = "Nothing was changed. First move the pins that it names, or choose another version."


class PinsIncomplete(UsageError):
    """With the moved pin, a package without a pin is needed; nothing was changed."""

    template = "with {name}=={version}, these packages are needed and have no pin: {missing}"
    help = "Nothing was changed. Add them to {file}, one per line, then move the pin."


class PackageIndexUnreachable(ServiceError):
    """The program uv could not ask the package index."""

    template = "uv could not resolve the pins: {reason}"
    help = "Nothing was changed. Check the network and the settings of uv and pip, and try again."


class UvMissing(LabError):
    """The program uv, which resolves pins, is missing."""

    template = "the program uv is missing"
    help = "`make setup` installs it beside perfci."


@dataclass(frozen=True, slots=True)
class MovedPin:
    """One pin, from a version to another; `text` is all of the file with it moved."""

    name: str
    before: str
    after: str
    text: str


def read_pins(text: str) -> dict[str, str]:
    """Return the versions of a constraints file by normalised name, in the file's order."""
    found = (_PIN.match(line) for line in text.splitlines())
    return {normal(pin["name"]): pin["version"] for pin in found if pin}


def normal(name: str) -> str:
    """Return a distribution's name as the packaging specifications compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def moved(text: str, name: str, version: str, file: Path = CONSTRAINTS) -> MovedPin:
    """Return a constraints file with one pin moved, all else as it was.

    Raises PinUnknown and PinVersionInvalid.
    """
    pins, wanted = read_pins(text), normal(name)
    if wanted not in pins:
        raise PinUnknown(file=file, name=name, suggestion=nearest(wanted, tuple(pins)))
    now = pins[wanted]
    if not _VERSION.match(version):
        raise PinVersionInvalid(name=wanted, version=version, now=now, reason="that is not an exact version")
    if version == now:
        raise PinVersionInvalid(
            name=wanted, version=version, now=now, reason="the pin already has this version"
        )
    lines = []
    for line in text.splitlines(keepends=True):
        pin = _PIN.match(line.rstrip("\r\n"))
        ours = pin is not None and normal(pin["name"]) == wanted
        lines.append(
            line.replace(f"{pin['before']}{now}", f"{pin['before']}{version}", 1) if ours and pin else line
        )
    return MovedPin(wanted, now, version, "".join(lines))


def requirements(root: Path, pins: Mapping[str, str]) -> list[str]:
    """Return what a cloud's environment is made of: the services at their pins, and what the role adds."""
    defaults = yaml_value((root / ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
    return [*(f"{name}=={pins[name]}" for name in SERVICES), *defaults["openstack_code_requirements"]]


def check(root: Path, move: MovedPin, cache: Path) -> None:
    """Let uv resolve the set with the pin moved.

    Raises PinsConflict, PinsIncomplete, PackageIndexUnreachable or UvMissing.
    """
    pins = read_pins(move.text)
    told = {"name": move.name, "version": move.after}
    with tempfile.TemporaryDirectory(prefix="perfci-pins-") as scratch:
        wanted, limits = Path(scratch) / "requirements.in", Path(scratch) / "constraints.txt"
        wanted.write_text("\n".join(requirements(root, pins)) + "\n", encoding="utf-8")
        limits.write_text(move.text, encoding="utf-8")
        done = _compile(wanted, limits, cache)
    said = done.stderr.strip()
    if done.returncode and _UNSOLVABLE in said:
        raise PinsConflict(**told, reason=said)
    if done.returncode:
        raise PackageIndexUnreachable(reason=said or f"it left with {done.returncode}")
    needed = read_pins(done.stdout)
    if missing := sorted(f"{name}=={version}" for name, version in needed.items() if name not in pins):
        raise PinsIncomplete(**told, missing=" ".join(missing), file=root / CONSTRAINTS)


def _compile(wanted: Path, limits: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    command = [
        _uv(), "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python", "/usr/bin/python3",
        "--constraints", str(limits), str(wanted),
    ]  # fmt: skip
    environment = {**os.environ, "UV_CACHE_DIR": str(cache), "NO_COLOR": "1"}
    try:
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=RESOLVE_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise PackageIndexUnreachable(reason=f"no answer within {RESOLVE_SECONDS} s") from error


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise UvMissing
    return found


def keep_copy(folder: Path, text: str) -> Path:
    """Write a constraints file under a name made from what is in it, and return it: runs refer to it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{digest(text)}.txt"
    write_whole(file, text)
    return file
