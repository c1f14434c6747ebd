import json

import pytest
from ansible.module_utils.testing import patch_module_args


@pytest.fixture
def write_files(plugin):
    return plugin("write_files")


def test_writes_whole_files_with_their_mode_and_says_what_changed(write_files, tmp_path):
    path = tmp_path / "etc" / "nova.conf"
    assert write_files.write(path, "secret\n", 0o600)
    assert path.read_text() == "secret\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert not write_files.write(path, "secret\n", 0o600)
    assert write_files.write(path, "secret\n", 0o400)
    assert [p.name for p in path.parent.iterdir()] == ["nova.conf"]


def test_removes_a_link_but_not_what_it_points_to(write_files, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    assert write_files.remove(tmp_path / "link")
    assert (tmp_path / "kept").is_dir()
    assert not write_files.remove(tmp_path / "link")
    assert write_files.remove(tmp_path / "kept")


@pytest.fixture
def call(write_files, capsys, tmp_path):
    def called(*, check=False):
        given = {
            "absent": [str(tmp_path / "old")],
            "directories": [str(tmp_path / "etc")],
            "files": [{"path": str(tmp_path / "etc" / "nova.conf"), "content": "password = s3cret\n"}],
            "_ansible_check_mode": check,
        }
        with patch_module_args(given), pytest.raises(SystemExit):
            write_files.main()
        return json.loads(capsys.readouterr().out)

    return called


def test_check_mode_says_what_would_be_done_and_does_not_do_it(call, tmp_path):
    (tmp_path / "old").mkdir()
    check = call(check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    done = call()
    assert check == done | {"invocation": check["invocation"]}
    assert [path.name for path in tmp_path.iterdir()] == ["etc"]
    assert done["diff"]["before"].splitlines() == [
        f"{tmp_path}/old: there",
        f"{tmp_path}/etc: missing",
        f"{tmp_path}/etc/nova.conf: missing",
    ]
    again = call(check=True)
    assert (again["changed"], again["diff"]) == (False, {"before": "", "after": ""})


def test_what_is_in_files_is_not_shown(call, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "nova.conf").write_text("password = old-s3cret\n")
    said = call()
    assert said["diff"]["before"] == f"{tmp_path}/etc/nova.conf: different\n"
    assert "s3cret" not in json.dumps(said)


def test_what_a_file_shall_be_may_be_in_another(write_files, capsys, tmp_path):
    """Private keys are copied on the machine that has them, and are in no argument of a task."""
    (tmp_path / "key").write_text("secret\n")
    wanted = {"files": [{"path": str(tmp_path / "orders" / "host_key"), "source": str(tmp_path / "key")}]}
    with patch_module_args(wanted), pytest.raises(SystemExit):
        write_files.main()
    assert json.loads(capsys.readouterr().out)["changed"]
    assert (tmp_path / "orders" / "host_key").read_text() == "secret\n"
    assert (tmp_path / "orders" / "host_key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("more", [{}, {"source": "/x", "content": "x"}])
def test_it_has_one_or_the_other(write_files, capsys, tmp_path, more):
    with patch_module_args({"files": [{"path": str(tmp_path / "a"), **more}]}), pytest.raises(SystemExit):
        write_files.main()
    assert json.loads(capsys.readouterr().out)["failed"]


def test_in_check_mode_a_source_may_be_missing(write_files, capsys, tmp_path):
    wanted = {
        "files": [{"path": str(tmp_path / "a"), "source": str(tmp_path / "b")}],
        "_ansible_check_mode": True,
    }
    with patch_module_args(wanted), pytest.raises(SystemExit):
        write_files.main()
    assert json.loads(capsys.readouterr().out)["changed"]
