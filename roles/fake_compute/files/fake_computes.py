"""Real nova-compute services with nova's fake driver, one process per pretend hypervisor.

They are forked from one parent that has loaded nova already, and share its memory: 60 MB each in place
of 160. If one of them ends, the parent ends all, so that whoever supervises it notices.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import signal
import sys
import time
from pathlib import Path

# Loaded before the fork, so that they are shared.
import nova.cmd.compute
import nova.compute.manager
import nova.network.neutron
import nova.scheduler.client.report
import nova.virt.fake
import os_vif  # noqa: F401
import oslo_messaging._drivers.impl_rabbit  # noqa: F401
import pymysql  # noqa: F401

STOP_SECONDS = 4.0
SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--stagger-seconds", type=float, default=0.05)
    parser.add_argument("--config-file", required=True)
    return parser.parse_args()


def compute(host: str, folder: Path, config_file: str) -> None:
    """Be one nova-compute, until it is told to stop."""
    state = folder / host
    state.mkdir(parents=True, exist_ok=True)
    own = state / "compute.conf"
    own.write_text(f"[DEFAULT]\nhost = {host}\nstate_path = {state}\n")
    sys.argv = ["nova-compute", "--config-file", config_file, "--config-file", str(own)]
    nova.cmd.compute.main()


def end(children: set[int]) -> None:
    """End all children, TERM first and KILL after a grace."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + STOP_SECONDS
        while children and time.monotonic() < deadline:
            collect(children)
            time.sleep(0.05)


def collect(children: set[int]) -> list[tuple[int, int]]:
    """Take ended children out of the set; return them with their status."""
    ended = []
    for pid in sorted(children):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            children.discard(pid)
            ended.append((pid, os.waitstatus_to_exitcode(status)))
    return ended


def main() -> int:
    options = arguments()
    gc.collect()
    gc.freeze()
    children: set[int] = set()
    for number in range(1, options.count + 1):
        pid = os.fork()
        if pid == 0:
            try:
                compute(f"{options.prefix}-{number:03d}", options.folder, options.config_file)
            finally:
                os._exit(1)
        children.add(pid)
        time.sleep(options.stagger_seconds)
    print(f"{len(children)} nova-compute services started", flush=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    while not (ended := collect(children)):
        if signal.sigwait(SIGNALS) != signal.SIGCHLD:
            end(children)
            return 0
    print(f"ended by themselves (process, status): {ended}; ending the others", flush=True)
    end(children)
    return 1


if __name__ == "__main__":
    sys.exit(main())
