import pytest


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
