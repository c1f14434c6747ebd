import threading
import time

import pytest


@pytest.fixture
def run_parallel(plugin):
    return plugin("run_parallel")


def chain(tmp_path, *commands, **more):
    return {"name": "schema", "log": str(tmp_path / "log"), "commands": list(commands), **more}


def run(run_parallel, wanted, seconds=30):
    return run_parallel.run_chain(wanted, time.monotonic() + seconds, threading.Event())


def test_commands_run_in_their_order_with_their_environment(run_parallel, tmp_path):
    first = ["sh", "-c", "echo $WHO"]
    run(
        run_parallel,
        chain(tmp_path, first, ["echo", "second"], environment={"WHO": "another"}, secrets={"WHO": "first"}),
    )
    assert (tmp_path / "log").read_text() == "first\nsecond\n"


def test_the_first_failure_ends_the_chain_and_tells_the_end_of_its_log(run_parallel, tmp_path):
    (tmp_path / "log").write_text("of an earlier day\n")
    wanted = chain(tmp_path, ["sh", "-c", "echo no such table; exit 3"], ["touch", str(tmp_path / "after")])
    with pytest.raises(run_parallel.ChainFailed, match=r"(?s)schema: sh .* status 3.*no such table") as error:
        run(run_parallel, wanted)
    assert "earlier day" not in str(error.value)
    assert not (tmp_path / "after").exists()


def test_what_takes_too_long_is_killed_with_all_that_it_started(run_parallel, lab_processes, tmp_path):
    marks = {"PERFCI_STATE_DIR": str(tmp_path), "PERFCI_SERVICE": "x"}
    wanted = chain(tmp_path, ["sh", "-c", "sleep 600 & sleep 600"], environment=marks)
    with pytest.raises(run_parallel.ChainFailed, match="took too long"):
        run(run_parallel, wanted, seconds=0.3)
    # A killed process can still be seen for a moment, until the kernel is done with it.
    end = time.monotonic() + 5
    while lab_processes.services(str(tmp_path)) and time.monotonic() < end:
        time.sleep(0.02)
    assert lab_processes.services(str(tmp_path)) == {}


def test_the_first_command_reads_the_file(run_parallel, tmp_path):
    (tmp_path / "dump").write_text("CREATE TABLE\n")
    run(run_parallel, chain(tmp_path, ["cat"], stdin=str(tmp_path / "dump")))
    assert (tmp_path / "log").read_text() == "CREATE TABLE\n"
