"""Settings of the kernel that are files: brought to a value, and read back."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IN_EFFECT, LEFT_ALONE, NOT_AVAILABLE = "in effect", "left alone", "not available"


@dataclass(frozen=True)
class Wish:
    """What shall be in which files."""

    files: list[Path]
    value: str
    same_as: tuple[str, ...] = ()
    some: bool = False

    def fits(self, found: str) -> bool:
        """Tell whether a value is as wanted."""
        return found in (self.value, *self.same_as)


def matching(patterns: list[str]) -> list[Path]:
    """Return the files of the first pattern that matches any, sorted."""
    for pattern in patterns:
        if found := sorted(glob.glob(pattern)):  # noqa: PTH207 - the pattern is absolute
            return [Path(name) for name in found]
    return []


def read(path: Path) -> str:
    """Return the value of a file; of a choice such as `always [madvise] never` the one that is chosen."""
    text = path.read_text().strip()
    chosen = re.search(r"\[([^\]]+)\]", text)
    return chosen[1] if chosen else text


def write(path: Path, wish: Wish) -> str:
    """Bring one file to the value; return why it could not be, or an empty string."""
    try:
        if wish.fits(read(path)):
            return ""
        path.write_text(wish.value)
        found = read(path)
    except OSError as error:
        return f"{path}: {error.strerror}"
    return "" if wish.fits(found) else f"{path} stays {found!r}"


def values(files: list[Path]) -> str:
    """Return the values in all files, each once."""
    return ", ".join(sorted({read(path) for path in files}))


def apply(wish: Wish) -> dict[str, str]:
    """Bring all files to the value; return the outcome as the record of the node has it."""
    if not wish.value:
        return {"state": LEFT_ALONE, "value": values(wish.files)}
    refusals = [refusal for path in wish.files if (refusal := write(path, wish))]
    if len(refusals) == len(wish.files) or (refusals and not wish.some):
        return {"state": NOT_AVAILABLE, "why": refusals[0]}
    taken = [path for path in wish.files if wish.fits(read(path))]
    return {"state": IN_EFFECT, "value": values(taken)}


def outcome(params: dict[str, Any], *, check: bool = False) -> tuple[dict[str, str], dict[str, str]]:
    """Return the outcome, and the files with their values before and after; with `check` what would come of it."""
    files = matching(params["files"])
    if not files:
        why = f"no {params['files'][0]}: {params['missing']}"
        return {"state": NOT_AVAILABLE, "why": why}, {"before": "", "after": ""}
    wish = Wish(files, params["value"], tuple(params["same_as"]), params["some"])
    before = {path: read(path) for path in files}
    if check and wish.value:
        after = {path: found if wish.fits(found) else wish.value for path, found in before.items()}
        setting = {"state": IN_EFFECT, "value": ", ".join(sorted(set(after.values())))}
    else:
        setting = apply(wish)
        after = {path: read(path) for path in files}
    return setting, {"before": lines(before), "after": lines(after)}


def lines(found: dict[Path, str]) -> str:
    """Return a line for each file."""
    return "".join(f"{path}: {value}\n" for path, value in found.items())
