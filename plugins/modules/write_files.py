"""Ansible module: write many small files in one task."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.whole_files import write

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
      content: {description: What., type: str}
      source: {description: "In place of C(content): a file on the same machine that has it.", type: path}
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


def content_of(file: dict[str, Any], *, check: bool) -> str:
    """Return what shall be in a file. In check mode the source may be what an earlier task would have made."""
    if file["source"] is None:
        return str(file["content"])
    source = Path(file["source"])
    return "" if check and not source.exists() else source.read_text()


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
                    "content": {"type": "str", "no_log": True},
                    "source": {"type": "path"},
                    "mode": {"type": "str", "default": "0600"},
                },
                "mutually_exclusive": [("content", "source")],
                "required_one_of": [("content", "source")],
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
            if write(Path(file["path"]), content_of(file, check=check), int(file["mode"], 8), check=check)
        ]
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    paths = [*removed, *made, *written]
    module.exit_json(changed=bool(paths), paths=paths, diff=diff(removed, made, written, new))


if __name__ == "__main__":
    main()
