"""What a migration reads and changes, as a real MariaDB counts it; dumps loaded and written."""

from __future__ import annotations

import gzip
import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from mariadb_server import mariadb, wait_until
from programs import needs

if TYPE_CHECKING:
    from pathlib import Path

FILES = "roles/dbmigration/files"
ROWS = 3000
SCRIPT = """
import json, sys, pymysql
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from server import Server, ServerError, growth

server, folder = Server(sys.argv[2]), Path(sys.argv[3])
server.recreate("t")
connection = pymysql.connect(read_default_file=sys.argv[2], database="t", autocommit=True)
cursor = connection.cursor()
cursor.execute("CREATE TABLE a (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(50))")
cursor.execute("INSERT INTO a (name) SELECT uuid() FROM seq_1_to_ROWS")

def measured(statement):
    before = server.counts()
    if statement:
        cursor.execute(statement)
    return growth(before, server.counts())

found = {
    "nothing": measured(""),
    "copied": measured("ALTER TABLE a ADD COLUMN c INT, ALGORITHM=COPY"),
    "in place": measured("ALTER TABLE a ADD INDEX (name), ALGORITHM=INPLACE"),
    "updated": measured("UPDATE a SET c = 1"),
}
server.dump("t", folder / "deep" / "t.sql")
server.recreate("t")
server.restore("t", Path(sys.argv[4]))
try:
    server.restore("t", folder / "broken.sql")
except ServerError as error:
    found["broken"] = str(error)
server.restore("t", folder / "deep" / "t.sql")
cursor.execute("SELECT count(*) FROM t.a")
found["restored"] = cursor.fetchone()[0]
cursor.execute("SELECT count(*) FROM t.donated")
found["donated"] = cursor.fetchone()[0]
print(json.dumps(found))
""".replace("ROWS", str(ROWS))


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs("mariadbd", "mariadb-install-db", "mariadb-admin", "mariadb", "mariadb-dump")
def test_rows_are_counted_and_asking_is_not(
    rally_python: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "broken.sql").write_text("CREATE TABEL x;\n")
    with gzip.open(tmp_path / "donated.sql.gz", "wb") as dump:
        dump.write(b"CREATE TABLE donated (id INT);\nINSERT INTO donated VALUES (1), (2);\n")
    options = tmp_path / "client.cnf"
    with mariadb(tmp_path) as port:
        # As the administrator: recreating databases needs more rights than counting does.
        options.write_text(f"[client]\nsocket={tmp_path}/s\nuser=root\n")
        alive = ["mariadb-admin", f"--defaults-extra-file={options}", "ping"]
        wait_until(lambda: subprocess.run(alive, capture_output=True, check=False).returncode == 0)
        assert port
        command = [rally_python, "-c", SCRIPT, request.config.rootpath / FILES, options, tmp_path]
        done = subprocess.run(
            [*map(str, command), str(tmp_path / "donated.sql.gz")],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["nothing"]["rows_read"], found["nothing"]["rows_changed"]) == (0, 0)
    assert ROWS <= found["copied"]["rows_read"] <= ROWS + 20
    assert found["copied"]["rows_changed"] == ROWS
    # Altered in place it counts no rows; its pages are looked at.
    assert found["in place"]["rows_read"] < 20
    assert found["in place"]["pages_read"] > 10
    assert found["updated"]["rows_changed"] == ROWS
    assert (found["restored"], found["donated"]) == (ROWS, 2)
    assert "broken.sql could not be loaded" in found["broken"]
    assert "You have an error in your SQL syntax" in found["broken"]
