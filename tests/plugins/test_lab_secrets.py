import pytest


@pytest.fixture
def lab_secrets(plugin):
    return plugin("lab_secrets")


def test_made_up_once_and_only_for_us(lab_secrets, tmp_path):
    path = tmp_path / "mariadb_nova"
    assert lab_secrets.secret(path, "first") == ("first", True)
    assert lab_secrets.secret(path, "second") == ("first", False)
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_empty_file_of_a_killed_deployment_is_filled(lab_secrets, tmp_path):
    (tmp_path / "key").touch()
    assert lab_secrets.secret(tmp_path / "key", "fresh") == ("fresh", True)
    assert (tmp_path / "key").read_text() == "fresh\n"
