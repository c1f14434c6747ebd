"""Ansible module: a folder as one file, and the other way round."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENTATION = r"""
module: folder_archive
short_description: A folder as one file, and the other way round
description:
  - Brings a folder with thousands of files to another machine as one. Both ways give all or nothing, whenever
    they are killed.
options:
  state:
    description:
      - C(packed) makes the archive, where it is missing or C(renew) is set.
      - C(unpacked) makes the folder, in place of one that is there, and removes the archive.
    type: str
    choices: [packed, unpacked]
    required: true
  folder: {description: The folder., type: path, required: true}
  archive: {description: "The file, a compressed tar; inside of the folder it leaves itself out", type: path, required: true}
  renew: {description: Make the archive anew., type: bool, default: false}
  offer:
    description: Folder in which the packed archive is offered to others, under its SHA-256 and C(.tar.gz).
    type: path
attributes:
  check_mode:
    support: full
    details: The size of an archive that is not there is 0.
  diff_mode:
    support: full
author: [perfci]
"""
EXAMPLES = r"""
- folder_archive: {state: packed, folder: /srv/venvs/1f2e, archive: /srv/venvs/1f2e/.packed.tar.gz}
"""
RETURN = r"""
bytes: {description: Size of the archive., returned: success, type: int}
sha256: {description: "Its SHA-256, in hex; empty where it is not offered", returned: success, type: str}
"""
UNUSED_SECONDS = 86400
"""An offer whose archive is gone stays for as long: somebody may be fetching it."""


def pack(folder: Path, archive: Path, *, renew: bool) -> bool:
    """Make the archive; say whether that was needed. Raises CalledProcessError and OSError."""
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "there is no such folder", str(folder))
    with locked(folder):
        return _pack(folder, archive, renew=renew)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait until nobody else packs a folder: a task for several nodes is carried out side by side."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _pack(folder: Path, archive: Path, *, renew: bool) -> bool:
    if archive.exists() and not renew:
        return False
    archive.parent.mkdir(parents=True, exist_ok=True)
    inside = archive.parent == folder
    # Beside the folder: tar gives up where the folder changes while it reads it.
    place = folder.parent if inside else archive.parent
    partial = place / f".{folder.name}-{archive.name}.{os.getpid()}"
    # The lowest level: the network is faster than better compression.
    command = [
        "tar",
        "--create",
        "--use-compress-program=gzip -1",
        f"--file={partial}",
        f"--directory={folder}",
    ]
    if inside:
        command += [f"--exclude=./{archive.name}", f"--exclude=./{archive.name}.sha256"]
    try:
        run([*command, "."])
        partial.replace(archive)
    finally:
        partial.unlink(missing_ok=True)
    return True


def offer(folder: Path, archive: Path, offers: Path) -> str:
    """Offer a packed archive, as a second name of the same file where that is possible; return its SHA-256.

    The sum stands beside the archive. Raises OSError.
    """
    with locked(folder):
        known = archive.with_name(f"{archive.name}.sha256")
        if known.exists() and known.stat().st_mtime_ns >= archive.stat().st_mtime_ns:
            digest = known.read_text().strip()
        else:
            with archive.open("rb") as source:
                digest = hashlib.file_digest(source, "sha256").hexdigest()
            partial = known.with_name(f".{known.name}.{os.getpid()}")
            partial.write_text(f"{digest}\n")
            partial.replace(known)
        place = offers / f"{digest}.tar.gz"
        offers.mkdir(parents=True, exist_ok=True)
        withdraw_unused(offers)
        if place.exists():
            os.utime(place)
        else:
            partial = offers / f".{digest}.{os.getpid()}"
            partial.unlink(missing_ok=True)
            try:
                partial.hardlink_to(archive)
            except OSError:  # another file system
                shutil.copyfile(archive, partial)
            partial.replace(place)
            os.utime(known)  # a file has one time under all its names
    return digest


def withdraw_unused(offers: Path) -> None:
    """Remove the offers whose archive is gone, and which nobody wanted for a day."""
    for one in offers.glob("*.tar.gz"):
        found = one.stat()
        if found.st_nlink == 1 and found.st_mtime < time.time() - UNUSED_SECONDS:
            one.unlink()


def unpack(folder: Path, archive: Path) -> None:
    """Make the folder, and remove the archive. Raises CalledProcessError and OSError."""
    partial = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700, parents=True)
    # As in the archive, but for the owner: that is whoever unpacks it.
    run(["tar", "--extract", "--gzip", f"--file={archive}", f"--directory={partial}", "--no-same-owner"])
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    archive.unlink()


def run(command: list[str]) -> None:
    """Run a program. Raises CalledProcessError with what it said."""
    subprocess.run(
        command, check=True, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["packed", "unpacked"], "required": True},
            "folder": {"type": "path", "required": True},
            "archive": {"type": "path", "required": True},
            "renew": {"type": "bool", "default": False},
            "offer": {"type": "path"},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    folder, archive = Path(wanted["folder"]), Path(wanted["archive"])
    new = wanted["state"] == "unpacked" or wanted["renew"] or not archive.exists()
    target = archive if wanted["state"] == "packed" else folder
    diff = {
        "before": f"{target}: {'old' if target.exists() else 'missing'}\n" if new else "",
        "after": f"{target}: {wanted['state']}\n" if new else "",
    }
    if module.check_mode:
        size = archive.stat().st_size if archive.exists() else 0
        module.exit_json(changed=new, bytes=size, sha256="", diff=diff)
    sha256 = ""
    try:
        if wanted["state"] == "packed":
            changed = pack(folder, archive, renew=wanted["renew"])
            size = archive.stat().st_size
            if wanted["offer"]:
                sha256 = offer(folder, archive, Path(wanted["offer"]))
        else:
            size = archive.stat().st_size
            unpack(folder, archive)
            changed = True
    except subprocess.CalledProcessError as error:
        module.fail_json(msg=f"{archive}: {error.stderr.strip()}")
    except OSError as error:
        module.fail_json(msg=f"{error.filename or archive}: {error.strerror}")
    module.exit_json(changed=changed, bytes=size, sha256=sha256, diff=diff)


if __name__ == "__main__":
    main()
