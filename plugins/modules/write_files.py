"""Ansible module: write many small files in one task."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: write_files
short_description: Write many small files in one task
description:
  - Makes folders, writes files whole or not at all, and removes what must not be there, in this order
    absent, directories, files. One task for a service's whole configuration costs as much time as one
    C(template) task for one file.
options:
  absent: {description: Files and folders to remove., type: list, elements: path, default: []}
  directories: {description: Folders to make., type: list, elements: path, default: []}
  directory_mode: {description: Mode of these folders., type: str, default: '0700'}
  files:
    description: Files to write.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Where., type: path, required: true}
      content: {description: What., type: str, required: true}
      mode: {description: Mode of the file., type: str, default: '0600'}
attributes:
  check_mode: {support: full}
  diff_mode:
    support: partial
    details: Says which paths are made, changed and removed. What is in files is not shown, as it may be secret.
author: [perfci]
"""
EXAMPLES = r"""
- write_files:
    files:
      - {path: /srv/perfci/etc/keystone.conf, content: "{{ lookup('ansible.builtin.template', 'keystone.conf.j2') }}"}
"""
RETURN = r"""
paths: {description: What was changed., returned: always, type: list}
"""


def write(path: Path, content: str, mode: int, *, check: bool = False) -> bool:
    """Write a file atomically; say whether it was different before. With `check` only say so."""
    data = content.encode()
    if path.is_file() and path.read_bytes() == data and path.stat().st_mode & 0o777 == mode:
        return False
    if check:
        return True
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "wb") as target:
        os.fchmod(target.fileno(), mode)
        target.write(data)
    Path(name).replace(path)
    return True


def remove(path: Path, *, check: bool = False) -> bool:
    """Remove a file or a folder; say whether it was there. With `check` only say so."""
    if check:
        return path.is_symlink() or path.exists()
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        return True
    existed = path.is_symlink() or path.exists()
    path.unlink(missing_ok=True)
    return existed


def make(path: Path, mode: int, *, check: bool = False) -> bool:
    """Make a folder; say whether it was missing. With `check` only say so."""
    existed = path.is_dir()
    if not check:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    return not existed


def diff(removed: list[str], made: list[str], written: list[str], new: set[str]) -> dict[str, str]:
    """Return a line for each path, before and after."""
    before = [f"{path}: there" for path in removed]
    before += [f"{path}: {'missing' if path in new else 'different'}" for path in (*made, *written)]
    after = [f"{path}: missing" for path in removed] + [f"{path}: as wanted" for path in (*made, *written)]
    return {
        "before": "".join(f"{line}\n" for line in before),
        "after": "".join(f"{line}\n" for line in after),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "absent": {"type": "list", "elements": "path", "default": []},
            "directories": {"type": "list", "elements": "path", "default": []},
            "directory_mode": {"type": "str", "default": "0700"},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "required": True, "no_log": True},
                    "mode": {"type": "str", "default": "0600"},
                },
            },
        },
        supports_check_mode=True,
    )
    wanted, check = module.params, module.check_mode
    try:
        all_ = [*wanted["directories"], *(file["path"] for file in wanted["files"])]
        new = {path for path in all_ if not Path(path).exists()}
        removed = [str(p) for p in map(Path, wanted["absent"]) if remove(p, check=check)]
        mode = int(wanted["directory_mode"], 8)
        made = [str(p) for p in map(Path, wanted["directories"]) if make(p, mode, check=check)]
        written = [
            file["path"]
            for file in wanted["files"]
            if write(Path(file["path"]), file["content"], int(file["mode"], 8), check=check)
        ]
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    paths = [*removed, *made, *written]
    module.exit_json(changed=bool(paths), paths=paths, diff=diff(removed, made, written, new))


if __name__ == "__main__":
    main()
