"""Make the services' users and the catalogue in a fresh keystone.

usage: identities.py FILE (JSON: users {name: password}, region, catalogue [{name, type, url}])
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import openstack

if TYPE_CHECKING:
    from openstack.identity.v3._proxy import Proxy

ROLES = ("admin", "service")


def main() -> None:
    wanted = json.loads(Path(sys.argv[1]).read_text())
    with openstack.connect() as cloud:
        identity = cast("Proxy", cloud.identity)
        roles = {role.name: role for role in identity.roles()}
        roles.update({name: identity.create_role(name=name) for name in ROLES if name not in roles})
        project = identity.find_project("service") or identity.create_project(
            name="service", domain_id="default"
        )
        for name, password in wanted["users"].items():
            user = identity.find_user(name) or identity.create_user(
                name=name, password=password, domain_id="default", default_project_id=project.id
            )
            for role in ROLES:
                identity.assign_project_role_to_user(project, user, roles[role])
        known = {service.name for service in identity.services()}
        for entry in wanted["catalogue"]:
            if entry["name"] in known:
                continue
            service = identity.create_service(name=entry["name"], type=entry["type"])
            for interface in ("public", "internal"):
                identity.create_endpoint(
                    service_id=service.id, interface=interface, url=entry["url"], region_id=wanted["region"]
                )


if __name__ == "__main__":
    main()
