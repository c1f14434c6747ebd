"""Which OpenStack project a service, an atomic action or a scenario belongs to."""

from __future__ import annotations

from functools import lru_cache

PROJECTS = ("keystone", "placement", "glance", "nova", "neutron", "cinder", "swift", "heat", "octavia")


@lru_cache(maxsize=4096)
def project(name: str) -> str:
    """Return the project that a name speaks of: `neutron` for `neutron-api` and `NeutronNetworks`."""
    lowered = name.lower()
    return next((name for name in PROJECTS if name in lowered), lowered.partition("-")[0].partition(".")[0])
