"""A real MariaDB for tests, on a port of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mariadb(folder: Path) -> Iterator[int]:
    """Run a server with a user `nova` and one that may see all statistics; yield its port."""
    port, init = free_port(), folder / "init.sql"
    init.write_text(
        "CREATE USER nova@'127.0.0.1' IDENTIFIED BY 'nova-pw';\n"
        "CREATE USER perfci@'127.0.0.1' IDENTIFIED BY 'perfci-pw';\n"
        "GRANT PROCESS ON *.* TO perfci@'127.0.0.1';\n"
    )
    config = folder / "my.cnf"
    config.write_text(
        f"[mysqld]\ndatadir={folder}/data\nsocket={folder}/s\nport={port}\nbind-address=127.0.0.1\nuserstat=1\n"
        f"pid-file={folder}/pid\nlog-error={folder}/error.log\ninit-file={init}\nskip-name-resolve\n"
        f"{'user=root' if os.getuid() == 0 else ''}\n"
    )
    install = ["mariadb-install-db", f"--defaults-file={config}", "--auth-root-authentication-method=normal"]
    subprocess.run(install, check=True, capture_output=True, timeout=60)
    with subprocess.Popen(["mariadbd", f"--defaults-file={config}"], stderr=subprocess.DEVNULL) as server:
        try:
            yield port
        finally:
            server.terminate()


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
