"""How long commands take that do little: `python benchmarks/startup.py [ROUNDS]`.

Seconds of wall clock and of this process's CPU (the fastest round of each), and the largest resident set.
The help of a command should take at most 0.3 s, one that reads a few rows at most 0.6 s, on a quiet machine.
A first round is not counted: it compiles modules, makes the database, and asks Ansible for the nodes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

COMMANDS = (
    ("--version", 0.3),
    ("--help", 0.3),
    ("run --help", 0.3),
    ("analyse --help", 0.3),
    ("run list", 0.6),
    ("alerts list", 0.6),
    ("status", 0.6),
    ("config show", 0.6),
    ("lab nodes", 0.6),
)


def measure(words: str) -> tuple[float, float, float]:
    """Return seconds, CPU seconds and MiB of one run of a command."""
    begun = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "perfci", *words.split()], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"perfci {words} ended with {process.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Print a table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as for an installed perfci
    for words, _ in COMMANDS:
        measure(words)
    print(f"{'command':<18} {'seconds':>8} {'CPU':>8} {'MiB':>6}   at most")
    for words, limit in COMMANDS:
        measured = [measure(words) for _ in range(rounds)]
        seconds, cpu, mib = (min(column) for column in zip(*measured, strict=True))
        print(
            f"{words:<18} {seconds:8.2f} {cpu:8.2f} {mib:6.0f}   {limit:.1f} s{'' if cpu <= limit else '  !'}"
        )


if __name__ == "__main__":
    main()
