import json

import pytest

from perfci.results.canaries import NodeCanaries, read_canaries
from perfci.results.errors import CanariesError


def write(folder, name, node="n1", **canaries):
    content = {"node": node, "taken_at": 1.0, "canaries": canaries}
    (folder / name).write_text(json.dumps(content))


def canary(*values):
    return {"unit": "seconds", "values": list(values)}


def test_the_median_of_each_canary_before_and_after(tmp_path):
    write(tmp_path, "n1-before.json", disk=canary(0.3, 0.1, 9.0), cpu=canary(1.0, 2.0))
    write(tmp_path, "n1-after.json", disk=canary(0.4))
    write(tmp_path, "rack-2-before.json", node="rack-2", disk=canary(0.5))
    assert read_canaries(tmp_path) == (
        NodeCanaries("n1", {"disk": 0.3, "cpu": 1.5}, {"disk": 0.4}),
        NodeCanaries("rack-2", {"disk": 0.5}, {}),
    )
    assert read_canaries(tmp_path / "none") == ()


@pytest.mark.parametrize(
    ("canaries", "message"),
    [
        ({}, "canaries: got"),
        ({"disk": canary()}, "canaries.disk.values: got"),
        ({"disk": canary(-1.0)}, r"values\[0\]: got -1.0; expected greater"),
        ({"disk": {"unit": "ms", "values": [1.0]}}, "unit: got 'ms'; expected 'seconds'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, canaries, message):
    write(tmp_path, "n1-before.json", **canaries)
    with pytest.raises(CanariesError, match=message):
        read_canaries(tmp_path)


def test_another_nodes_file(tmp_path):
    write(tmp_path, "n1-before.json", node="n2", disk=canary(1.0))
    with pytest.raises(CanariesError, match="got 'n2'; expected 'n1'"):
        read_canaries(tmp_path)
