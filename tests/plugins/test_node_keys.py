"""Keys of many nodes in one task: made where they are missing, known to the controller, and forgotten again."""

import pytest
from programs import needs

pytestmark = needs("ssh-keygen")


@pytest.fixture
def keys(plugin):
    return plugin("node_keys")


@pytest.fixture
def nodes(tmp_path):
    folder = tmp_path / "ssh"
    return [
        {
            "name": f"node-{number}",
            "address": f"192.0.2.{number}",
            "port": 22 if number < 3 else 2222,
            "host_key_file": str(folder / f"node-{number}.host"),
            "login_key_file": str(folder / "id"),
            "known_hosts_file": str(folder / "known_hosts"),
        }
        for number in (1, 2, 3)
    ]


def test_all_keys_are_made_once(keys, nodes, tmp_path):
    made, changed = keys.present(nodes, check=False)
    folder = tmp_path / "ssh"
    assert made == [str(folder / name) for name in ("id", "node-1.host", "node-2.host", "node-3.host")]
    assert changed == [str(folder / "known_hosts")]
    known = dict(line.split(" ", 1) for line in (folder / "known_hosts").read_text().splitlines())
    assert known["192.0.2.2"] == (folder / "node-2.host.pub").read_text().strip()
    assert set(known) == {"192.0.2.1", "192.0.2.2", "[192.0.2.3]:2222"}
    assert (folder / "id.pub").read_text().split()[2] == "perfci"
    assert (folder / "node-1.host").stat().st_mode & 0o777 == 0o600
    before = (folder / "node-1.host").read_text()
    assert keys.present(nodes, check=False) == ([], [])
    assert (folder / "node-1.host").read_text() == before
    assert sorted(file.name for file in folder.iterdir() if file.name.startswith(".")) == []


def test_other_known_hosts_stay_and_old_keys_go(keys, nodes, tmp_path):
    known = tmp_path / "ssh" / "known_hosts"
    known.parent.mkdir()
    known.write_text(
        "192.0.2.9 ssh-ed25519 OTHER\n192.0.2.1 ssh-ed25519 OLD\n192.0.2.1 ecdsa-sha2-nistp256 OLD\n"
    )
    keys.present(nodes[:1], check=False)
    lines = known.read_text().splitlines()
    assert lines[0] == "192.0.2.9 ssh-ed25519 OTHER"
    assert "OLD" not in known.read_text()
    assert len(lines) == 2


def test_a_pair_that_a_kill_left_half_made_is_made_again(keys, nodes, tmp_path):
    keys.present(nodes, check=False)
    (tmp_path / "ssh" / "node-2.host.pub").unlink()
    made, _ = keys.present(nodes, check=False)
    assert made == [nodes[1]["host_key_file"]]
    assert (tmp_path / "ssh" / "node-2.host.pub").read_text().split()[1] in (
        tmp_path / "ssh" / "known_hosts"
    ).read_text()


def test_nodes_are_forgotten_and_the_login_key_stays(keys, nodes, tmp_path):
    keys.present(nodes, check=False)
    folder = tmp_path / "ssh"
    removed, changed = keys.absent(nodes[:1], check=False)
    assert (removed, changed) == ([nodes[0]["host_key_file"]], [str(folder / "known_hosts")])
    assert not (folder / "node-1.host").exists()
    assert not (folder / "node-1.host.pub").exists()
    assert (folder / "id").exists()
    assert "192.0.2.1 " not in (folder / "known_hosts").read_text()
    assert keys.absent(nodes[:1], check=False) == ([], [])


def test_in_check_mode_nothing_is_written(keys, nodes, tmp_path):
    made, changed = keys.present(nodes, check=True)
    assert (len(made), changed) == (4, [str(tmp_path / "ssh" / "known_hosts")])
    assert not (tmp_path / "ssh").exists()
    keys.present(nodes, check=False)
    assert keys.present(nodes, check=True) == ([], [])
    assert keys.absent(nodes, check=True)[0] == [node["host_key_file"] for node in nodes]
    assert (tmp_path / "ssh" / "node-1.host").exists()
    assert keys.absent(nodes[:1], check=True)[1] == [str(tmp_path / "ssh" / "known_hosts")]
    assert "192.0.2.1 " in (tmp_path / "ssh" / "known_hosts").read_text()


def test_nothing_to_forget_where_nothing_was(keys, nodes, tmp_path):
    assert keys.absent(nodes, check=False) == ([], [])
    assert not (tmp_path / "ssh").exists()
