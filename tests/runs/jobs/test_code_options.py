"""Code of services as options name it."""

from __future__ import annotations

import pytest

from perfci.runs.jobs.code_options import CodeOptionInvalid, parse_code
from perfci.runs.jobs.sources import Source


@pytest.mark.parametrize(
    ("option", "source"),
    [
        ("neutron=29.0.1", Source(version="29.0.1")),
        ("neutron=pinned", Source()),
        ("neutron=https://opendev.org/openstack/neutron@master", Source(git="https://opendev.org/openstack/neutron", ref="master")),
        ("neutron=ssh://me@example.org/neutron@refs/changes/1/2/3", Source(git="ssh://me@example.org/neutron", ref="refs/changes/1/2/3")),
        ("neutron=/srv/git/neutron@1234abc", Source(git="/srv/git/neutron", ref="1234abc")),
    ],
)  # fmt: skip
def test_releases_and_revisions(option, source):
    assert parse_code([option, "nova=34.0.0"]) == {"neutron": source, "nova": Source(version="34.0.0")}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["cinder=1"], "no service 'cinder'"),
        (["neutron"], "no code"),
        (["neutron="], "no code"),
        (["neutron=1", "neutron=2"], "named twice"),
        (["neutron=/srv/neutron"], "URL@REF"),
        (["neutron=/srv/neutron@"], "after the @"),
    ],
)
def test_what_names_no_code_is_refused(options, said):
    with pytest.raises(CodeOptionInvalid, match=said):
        parse_code(options)
