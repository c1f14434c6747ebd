import signal

SLEEP = "import time; print('ready', flush=True); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"


def test_ends_only_what_carries_both_marks_of_this_folder(lab_processes, spawn, tmp_path):
    ours = spawn(SLEEP, service="nova-api")
    persons = spawn(SLEEP)
    others = spawn(SLEEP, service="nova-api", state_dir=tmp_path / "other")
    assert lab_processes.reap(str(tmp_path)) == ["nova-api"]
    assert ours.wait() == -signal.SIGTERM
    assert persons.poll() is None
    assert others.poll() is None


def test_kills_what_does_not_end_by_itself(lab_processes, spawn, tmp_path):
    stubborn = spawn(STUBBORN, service="rabbitmq")
    assert lab_processes.reap(str(tmp_path), grace_seconds=0.2) == ["rabbitmq"]
    assert stubborn.wait() == -signal.SIGKILL


def test_leaves_alone_what_is_kept_and_what_runs_it(lab_processes, spawn, tmp_path):
    code = (
        "import os, subprocess, sys\n"
        "marks = {**os.environ, 'PERFCI_SERVICE': 'influxdb'}\n"
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], env=marks, stdin=subprocess.PIPE)\n"
        "print('ready', flush=True)\n"
        "child.wait()\n"
    )
    supervisor = spawn(code, service="supervisord")
    other = spawn(SLEEP, service="glance")
    assert lab_processes.reap(str(tmp_path), keep=["influxdb"]) == ["glance"]
    other.wait()
    assert supervisor.poll() is None
    assert set(lab_processes.services(str(tmp_path)).values()) == {"supervisord", "influxdb"}
    assert lab_processes.reap(str(tmp_path)) == ["influxdb", "supervisord"]


def test_supervisors_go_first_and_without_a_grace(lab_processes, spawn, tmp_path):
    supervisor = spawn(STUBBORN, service="supervisord")
    lab_processes.reap(str(tmp_path))
    assert supervisor.wait() == -signal.SIGKILL


def test_a_second_time_there_is_nothing_to_end(lab_processes, spawn, tmp_path):
    spawn(SLEEP, service="glance")
    assert lab_processes.reap(str(tmp_path)) == ["glance"]
    assert lab_processes.reap(str(tmp_path)) == []


def test_only_some_services(lab_processes, spawn, tmp_path):
    spawn(SLEEP, service="glance")
    nova = spawn(SLEEP, service="nova-api")
    assert lab_processes.reap(str(tmp_path), only=["glance"]) == ["glance"]
    assert nova.poll() is None


def test_a_run_ends_its_cloud_and_those_of_earlier_runs_but_nothing_of_the_controller(
    lab_processes, spawn, tmp_path
):
    mine = spawn(SLEEP, service="nova-api", run="r2")
    earlier = spawn(SLEEP, service="glance", run="r1")
    their_ansible = spawn(SLEEP, service="deploy", run="r1")
    my_ansible = spawn(SLEEP, service="deploy", run="r2")
    influxdb = spawn(SLEEP, service="influxdb")
    assert lab_processes.reap(str(tmp_path), run="r2") == ["deploy", "glance", "nova-api"]
    for ended in (mine, earlier, my_ansible):
        assert ended.wait() == -signal.SIGTERM
    assert their_ansible.poll() is None
    assert influxdb.poll() is None
