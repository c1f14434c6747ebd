"""Make phases.json of an upgrade, from what its parts left.

usage: report.py SETTINGS (JSON): {"clock": moments of the phases (module phase_clock), "probe": output of
api_probe.py, "schemas": seconds of each one, "base": base-code.json, "logs": folder,
"services": ["nova-api"], "constraints": those of the new code, "output": phases.json,
"arguments": what else makes two upgrades alike}
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SCENARIO = "Upgrade.cloud"
TOTAL = "total"
_DIGITS = 12
ANY = "apis"
"""The name under which it counts that at least one API did not answer."""
_CONFIGURATION = re.compile(
    r"deprecat|is not supported any ?more|obsolete|unknown option|invalid option", re.IGNORECASE
)
_WARNING = re.compile(r"\b(?:WARNING|\w*(?:Deprecation|Future|User)Warning)\b:?")
_CHANGING = re.compile(
    r"\b(?:req-)?[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b[0-9a-f]{32}\b"
    r"|\d{4}-\d\d-\d\d[ T][\d:.,]+|0x[0-9a-f]+|\d+"
)


def phases(moments: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Return the seconds of each phase, and of all of them together."""
    for one, following in pairwise(moments):
        yield timing(one["phase"], one["at"], following["at"] - one["at"])
    yield timing(TOTAL, moments[0]["at"], moments[-1]["at"] - moments[0]["at"])


def timing(action: str, at: float, seconds: float) -> dict[str, Any]:
    """Return one phase with its seconds."""
    return {"action": action, "at": at, "values": {"seconds": seconds}}


def downtimes(probe: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return how long each API did not answer, and how long at least one did not."""
    every = []
    for name, record in sorted(probe["apis"].items()):
        outages = [(since, until or probe["until"]) for since, until in record["outages"]]
        every += outages
        yield timing(f"{name}.downtime", probe["from"], length(outages))
    yield timing(f"{ANY}.downtime", probe["from"], length(every))


def length(spans: Iterable[tuple[float, float]]) -> float:
    """Return how much time spans cover; where they overlap it counts once."""
    covered, end = 0.0, float("-inf")
    for since, until in sorted(spans):
        covered += max(0.0, until - max(since, end))
        end = max(end, until)
    return covered


def warnings(text: str) -> set[str]:
    """Return the different warnings about configuration and deprecation in a log.

    Processes of one service say the same, with other times and ids: they count once.
    """
    found = set()
    for line in text.splitlines():
        if (place := _WARNING.search(line)) and _CONFIGURATION.search(line, place.start()):
            found.add(_CHANGING.sub("#", line[place.start() :]).strip())
    return found


def said(logs: Path, services: Iterable[str]) -> dict[str, list[str]]:
    """Return the warnings of each service."""
    texts = {name: logs / f"{name}.log" for name in services}
    return {
        name: sorted(warnings(path.read_text(encoding="utf-8", errors="replace"))) if path.exists() else []
        for name, path in texts.items()
    }


def part(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the part of phases.json."""
    moments, probe, base = (
        json.loads(Path(settings[name]).read_text()) for name in ("clock", "probe", "base")
    )
    began, ended = moments[0]["at"], moments[-1]["at"]
    schemas = json.loads(Path(settings["schemas"]).read_text()).items()
    constraints = Path(settings["constraints"]).read_bytes()
    told = said(Path(settings["logs"]), settings["services"])
    return {
        "slug": "upgrade",
        "scenario": SCENARIO,
        "arguments": {
            **settings["arguments"],
            "constraints": hashlib.sha256(constraints).hexdigest()[:_DIGITS],
            "base": {
                one["service"]: [one["source"], one["revision"], *one["changes"]] for one in base["services"]
            },
        },
        "status": "finished",
        "started_at": began,
        "finished_at": ended,
        "phases": [
            *phases(moments),
            *(timing(f"{service}.schema", began, seconds) for service, seconds in sorted(schemas)),
            *downtimes(probe),
            *(
                {"action": name, "at": ended, "values": {"warnings": len(all_)}}
                for name, all_ in told.items()
            ),
        ],
        "warnings": told,
    }


def main() -> int:
    """Write phases.json."""
    settings = json.loads(sys.argv[1])
    output = Path(settings["output"])
    partial = output.with_name(f".{output.name}.partial")
    partial.write_text(json.dumps([part(settings)], indent=1) + "\n", encoding="utf-8")
    partial.replace(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
