"""SQL statements per user, counted in a real MariaDB."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import counters
import pytest
from mariadb_server import mariadb, wait_until
from programs import needs

SCRIPT = Path(counters.__file__)
QUERY = """
import pymysql, sys
connection = pymysql.connect(host="127.0.0.1", port=int(sys.argv[1]), user="nova", password="nova-pw")
for _ in range(int(sys.argv[2])):
    connection.query("SELECT 1")
connection.close()
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs("mariadbd", "mariadb-install-db")
def test_statements_are_counted_by_user(rally_python: Path, tmp_path: Path) -> None:
    output, secret = tmp_path / "n.jsonl", tmp_path / "password"
    secret.write_text("perfci-pw\n")

    def samples() -> list[dict[str, int]]:
        lines = output.read_text().splitlines() if output.exists() else []
        return [{}, *(json.loads(line)["sql"] for line in lines)]

    with mariadb(tmp_path) as port:
        query = [str(rally_python), "-c", QUERY, str(port)]
        quiet = {"stderr": subprocess.DEVNULL, "timeout": 60}
        wait_until(lambda: subprocess.run([*query, "0"], check=False, **quiet).returncode == 0)
        access = ["--mariadb", f"127.0.0.1:{port}", "--mariadb-password-file", str(secret)]
        command = [
            rally_python,
            SCRIPT,
            "--state-dir",
            tmp_path,
            "--output",
            output,
            "--period-seconds",
            "0.1",
        ]
        with subprocess.Popen([*map(str, command), *access]) as sampler:
            try:
                wait_until(lambda: "nova" in samples()[-1])
                before = samples()[-1]["nova"]
                subprocess.run([*query, "40"], check=True, timeout=60)
                count = len(samples())
                wait_until(lambda: len(samples()) > count + 1)
            finally:
                sampler.send_signal(signal.SIGTERM)
            assert sampler.wait(30) == 0
        # Connecting takes a few statements of its own.
        assert 40 <= samples()[-1]["nova"] - before <= 45
        assert "perfci-pw" not in output.read_text()
