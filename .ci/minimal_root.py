#!/usr/bin/env python3
"""Run the README's set-up in a minimal Debian, and look whether it brings what tests and playbooks ask for.

The root has what the README demands (`ca-certificates`, `make`, `python3`) and no more, so it lacks what
somebody once installed by hand. It is kept below the state folder and made again when one of its inputs
changes. How to reach package indexes (apt's sources and settings, pip's configuration, proxies,
certificates) is taken from this machine.

Exit code 0: everything is there, or this machine may not do it, which is then said. 1: something is missing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("PERFCI_STATE_DIR", PROJECT / "state")).resolve() / "cache"
HOME = CACHE / "minimal-root"
ROOT = HOME / "root"
ARCHIVES = HOME / "archives"
"""Debian packages, for the next root."""
DONE = "/.set-up-done"
DEMANDED = ["ca-certificates", "make", "python3"]
"""What the README demands of a machine."""
INPUTS = (
    *(".ci/minimal_root.py", "Makefile", "constraints.txt", "pyproject.toml"),
    *("playbooks/setup.yml", "inventory/embedded"),
    *("roles/packages", "roles/preflight", "roles/openstack_code"),
)
"""What decides what a set-up installs."""
PASSED_ON = re.compile(
    r"(?i).*_proxy|PIP_(?!CACHE_DIR).*|UV_(.*INDEX.*|FIND_LINKS|CONFIG_FILE|NATIVE_TLS|HTTP_TIMEOUT)"
    r"|.*CA_?BUNDLE|SSL_CERT_.*"
)
"""Variables of the environment that say how to reach package indexes."""
READ_BY_PIP = [
    "/etc/pip.conf",
    "/etc/xdg/pip",
    "/etc/uv",
    "~/.config/pip",
    "~/.pip",
    "~/.config/uv",
    "~/.netrc",
]
HERE = "/perfci"
"""The checkout's place in the root."""
KEPT = (".venv", "state")
SETUP = """
make --no-print-directory -C {here} setup
{here}/.venv/bin/perfci setup --tests
apt-get -qq autoclean
"""
CHECK = """
cd {here}
export PERFCI_TESTS_COMPLETE=1 PYTHONPYCACHEPREFIX=/var/cache/python
tests() {{ .venv/bin/python -m pytest -q -p no:cacheprovider "$@"; }}
tests tests/test_programs.py
tests --collect-only >/tmp/collected || {{ tail -n 60 /tmp/collected; exit 1; }}
tail -n 1 /tmp/collected
"""
"""Programs and pinned packages are there, and every test module can be imported."""
MOUNTS = """
set -eu
root=$1 archives=$2
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount --bind "$archives" "$root/var/cache/apt/archives"
shift 2
while [ "$1" != -- ]; do
    mount --bind "$1" "$root$1"
    mount -o remount,bind,ro "$root$1"
    shift
done
shift
exec chroot "$root" "$@"
"""
"""In a mount namespace of its own, so that nothing stays mounted, whatever ends this."""


def main() -> int:
    problem = unable()
    if problem:
        print(f"\n*** NOT CHECKED: the set-up in a minimal Debian. {problem}\n", file=sys.stderr)
        return 0
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            make()
            copy_checkout()
            step("Check what tests and playbooks ask for", lambda: inside(CHECK))
        except subprocess.CalledProcessError as error:
            print(
                f"minimal Debian: that failed with {error.returncode}, see above; the root is {ROOT}",
                file=sys.stderr,
            )
            return 1
    return 0


def unable() -> str:
    """Return why this machine can't make a root; nothing where it can."""
    if os.geteuid() != 0:
        return "It needs root."
    if not shutil.which("mmdebstrap"):
        return "mmdebstrap is missing; `perfci setup --tests` installs it."
    tried = subprocess.run(
        [*isolated(), "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True, check=False
    )
    return f"Root may not mount here: {tried.stderr.strip()}" if tried.returncode else ""


def make() -> None:
    """Have a root in which the set-up has run; an old one stays where nothing has changed."""
    wanted = key()
    done = ROOT / DONE.lstrip("/")
    if done.exists() and done.read_text() == wanted:
        return
    (ARCHIVES / "partial").mkdir(parents=True, exist_ok=True)
    remove(ROOT)
    step("Make a minimal Debian", debian)
    furnish()
    copy_checkout()
    step("Run the README's set-up in it", lambda: inside(SETUP))
    done.write_text(wanted)


def key() -> str:
    """Return a digest over all that decides what is in the root."""
    digest = hashlib.sha256(release().encode())
    for path in (PROJECT / name for name in INPUTS):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(f"{file.relative_to(PROJECT)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def release() -> str:
    """Return the name of this machine's Debian release, which the root has, too: they share apt's sources."""
    return re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)[1]


def debian() -> None:
    settings = HOME / "apt.conf"
    dump = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True).stdout
    # How to fetch: proxies, certificates, timeouts. Hooks and the like need programs that the root lacks.
    lines = [line for line in dump.splitlines() if line.startswith("Acquire::") and not line.endswith(' "";')]
    settings.write_text("\n".join([*lines, 'APT::Install-Recommends "false";', ""]))
    command = [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(DEMANDED)}",
        f"--aptopt={settings}",
    ]
    subprocess.run([*command, "--quiet", "--format=directory", release(), str(ROOT), *sources()], check=True)
    shutil.copy(settings, ROOT / "etc/apt/apt.conf.d/90minimal-root")


def sources() -> list[str]:
    """Return this machine's files that name package sources."""
    parts = Path("/etc/apt/sources.list.d")
    files = [Path("/etc/apt/sources.list"), *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))]
    return [str(file) for file in files if file.is_file() and file.stat().st_size]


def furnish() -> None:
    """Give the root what tells how to reach other machines, and places for what is mounted."""
    for file in ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"):
        if Path(file).exists():
            shutil.copyfile(file, f"{ROOT}{file}")
    for folder in (
        "/etc/apt/keyrings",
        "/etc/apt/trusted.gpg.d",
        "/usr/share/keyrings",
        "/usr/local/share/ca-certificates",
    ):
        if Path(folder).is_dir():
            shutil.copytree(folder, f"{ROOT}{folder}", dirs_exist_ok=True)
    if (CACHE / "uv").is_dir():
        target = ROOT / HERE.lstrip("/") / "state/cache/uv"
        target.parent.mkdir(parents=True)
        # Links cost no time and no space. Another uv may remove files meanwhile; what is missing is fetched.
        subprocess.run(
            ["cp", "--archive", "--link", "--no-target-directory", (CACHE / "uv").resolve(), target],
            check=False,
        )


def copy_checkout() -> None:
    """Bring the checkout's files as they are now; the root keeps its own environment and state folder."""
    target = ROOT / HERE.lstrip("/")
    target.mkdir(exist_ok=True)
    for old in target.iterdir():
        if old.name not in KEPT:
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    made = shutil.ignore_patterns("__pycache__", ".*_cache", ".hypothesis")

    def left_out(folder: str, names: list[str]) -> set[str]:
        return made(folder, names) | ({*KEPT, ".git"} if Path(folder) == PROJECT else set())

    shutil.copytree(PROJECT, target, symlinks=True, ignore=left_out, dirs_exist_ok=True)


def inside(script: str) -> None:
    """Run shell commands in the root, with the checkout, the caches, and what pip's configuration names."""
    shown = [*read_by_pip()]
    for path in shown:
        place = ROOT / str(path).lstrip("/")
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        elif not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    environment = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    environment |= {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(Path.home()),
        "PERFCI_PORT_BASE": str(port_base()),
        "DEBIAN_FRONTEND": "noninteractive",
    }
    mounts = ["sh", "-c", MOUNTS, "sh", ROOT, ARCHIVES, *shown, "--"]
    command = [*isolated("--pid", "--fork", "--kill-child"), *mounts, "sh", "-euc", script.format(here=HERE)]
    subprocess.run([str(word) for word in command], check=True, env=environment)


def isolated(*more: str) -> list[str]:
    """Return a command to put before another: it ends with us, and its mounts with it."""
    return ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", *more]


def read_by_pip() -> list[Path]:
    """Return the files and folders of this machine that pip's and uv's configuration consists of or names."""
    python = PROJECT / ".venv/bin/python"
    command = [python if python.exists() else sys.executable, "-m", "pip", "config", "list"]
    settings = subprocess.run(command, check=False, capture_output=True, text=True).stdout.splitlines()
    settings += [value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)]
    found = {Path(name).expanduser() for name in [*READ_BY_PIP, *paths(settings)]}
    given = {path for path in found if path.exists() and not path.is_relative_to("/etc/ssl")}
    return sorted(
        path for path in given if not any(one != path and path.is_relative_to(one) for one in given)
    )


def paths(settings: list[str]) -> list[str]:
    """Return the paths that settings name, as folders, files or URLs of such."""
    return [path for line in settings for path in re.findall(r"(?:^|[\s'\"=]|file://)(/[^\s'\",]+)", line)]


def port_base() -> int:
    """Return a thousand ports of which a lab on this machine has none."""
    for base in range(20_000, 32_000, 1000):
        if all(free(base + offset) for offset in range(1000)):
            return base
    raise SystemExit("no thousand free ports between 20000 and 32000")


def free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def remove(root: Path) -> None:
    """Remove an old root; nothing of this machine is mounted in it outside of a namespace that is gone."""
    if root.exists():
        subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=True)


def step(name: str, work: Callable[[], None]) -> None:
    print(f"minimal Debian: {name}", flush=True)
    started = time.monotonic()
    work()
    print(f"minimal Debian: {name}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
