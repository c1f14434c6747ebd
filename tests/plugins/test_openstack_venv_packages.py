"""The record of the code names every package with its exact version."""

from __future__ import annotations

import importlib.util
from pathlib import Path

MODULE = Path(__file__).parents[2] / "plugins" / "modules" / "openstack_venv.py"


def test_every_package_is_named_with_its_version(tmp_path):
    for name in ("oslo_messaging-18.3.1", "nova-34.0.0", "python_novaclient-18.13.1"):
        (tmp_path / f"{name}.dist-info").mkdir()
    (tmp_path / "nova").mkdir()
    spec = importlib.util.spec_from_file_location("openstack_venv", MODULE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.packages(tmp_path) == {
        "nova": "34.0.0",
        "oslo-messaging": "18.3.1",
        "python-novaclient": "18.13.1",
    }
