"""Start and stop the sampler: control.py start PID_FILE LOG OUTPUT -- COMMAND..., control.py stop PID_FILE.

`start` returns when the first sample is there. The sampler goes on after whoever started it has ended;
it is found by its mark PERFCI_STATE_DIR should nobody stop it. `stop` is content if nothing runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import proc_reader

START_SECONDS = 20.0
STOP_SECONDS = 10.0


def start(pid_file: Path, log: Path, output: Path, command: list[str]) -> None:
    """Start the command; raises RuntimeError with the end of its log if no sample comes."""
    stop(pid_file)
    for path in (pid_file, log):
        path.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as target:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    pid_file.write_text(f"{child.pid} {_started(child.pid)}\n", encoding="ascii")
    limit = time.monotonic() + START_SECONDS
    while not (output.exists() and output.stat().st_size):
        if child.poll() is not None or time.monotonic() > limit:
            child.kill()
            pid_file.unlink()
            tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"no sample came; the sampler's log ends with:\n{tail}")
        time.sleep(0.02)


def stop(pid_file: Path) -> None:
    """Stop what was started with this file; the sampler writes a last sample."""
    try:
        pid, started = (int(word) for word in pid_file.read_text(encoding="ascii").split())
    except (FileNotFoundError, ValueError):
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        limit = time.monotonic() + STOP_SECONDS
        # The start time tells the sampler from another process that was given its pid.
        if _started(pid) == started:
            os.kill(pid, number)
        while _started(pid) == started and time.monotonic() < limit:
            time.sleep(0.02)
    pid_file.unlink()


def _started(pid: int) -> int | None:
    """Return when a process was started (ticks since boot), None if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    process = proc_reader.parse_stat(text)
    is_zombie = text.rpartition(")")[2].split()[:1] == ["Z"]
    return process.started if process and not is_zombie else None


def main() -> int:
    """Return 1 if the sampler does not start."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    starting = verbs.add_parser("start")
    for name in ("pid_file", "log", "output"):
        starting.add_argument(name, type=Path)
    starting.add_argument("command", nargs="+")
    verbs.add_parser("stop").add_argument("pid_file", type=Path)
    arguments = parser.parse_args()
    if arguments.verb == "stop":
        stop(arguments.pid_file)
        return 0
    try:
        start(arguments.pid_file, arguments.log, arguments.output, arguments.command)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
