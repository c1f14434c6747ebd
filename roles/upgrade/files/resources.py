"""Make resources in a cloud, and look later whether they are still what they were.

usage: resources.py create|verify SETTINGS (JSON): {"state": file for what is remembered, "flavor": name,
"wait_seconds": 120, "computes": 2, "agents": 2}. OS_CLIENT_CONFIG_FILE and OS_CLOUD say which cloud.

A user with a password in a project of its own has an image, a network with a subnet, a router to it, a port
and a server on that port. `verify` compares all that is to last, uses each of them once more (the image is
downloaded, the server restarted, a second one booted), and removes everything. The file of what is
remembered holds the password: mode 0600.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openstack
from openstack.exceptions import SDKException

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "perfci-upgrade"
IMAGE_BYTES = 65_536
POLL_SECONDS = 0.3


class Lost(Exception):
    """Something did not survive, or does not work."""


def wait_for(what: str, reached: Callable[[], bool], seconds: float) -> None:
    """Wait until something is so. Raises Lost."""
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise Lost(f"{what}: not after {seconds:.0f} s")
        time.sleep(POLL_SECONDS)


class Resources:
    """What one user has in a cloud; `ids` are remembered from `create` to `verify`."""

    def __init__(self, settings: dict[str, Any], admin: Any) -> None:
        self.settings, self.admin = settings, admin
        self.seconds = float(settings["wait_seconds"])
        self.ids: dict[str, str] = {}

    def create(self) -> dict[str, Any]:
        """Make everything, and return what is to be remembered."""
        password = secrets.token_urlsafe(16)
        self._make_user(password)
        with self._user(password) as user:
            content = os.urandom(IMAGE_BYTES)
            self.ids["image"] = user.create_image(
                NAME, data=content, disk_format="raw", container_format="bare", wait=True
            ).id
            self._make_network(user)
            self.ids["server"] = self._boot(user, NAME, [{"port": self.ids["port"]}])
            facts = self._facts(user)
        return {
            "ids": self.ids,
            "password": password,
            "image_digest": hashlib.sha256(content).hexdigest(),
            "facts": facts,
        }

    def verify(self, known: dict[str, Any]) -> None:
        """Compare with what was remembered, and use everything once more. Raises Lost."""
        self.ids = known["ids"]
        self._wait_for_hosts()
        with self._user(known["password"]) as user:
            now = self._facts(user)
            changed = [
                f"{kind}.{name} was {value!r} and is {now[kind].get(name)!r}"
                for kind, facts in known["facts"].items()
                for name, value in facts.items()
                if now[kind].get(name) != value
            ]
            if changed:
                raise Lost("; ".join(changed))
            data = user.image.download_image(self.ids["image"]).content
            if hashlib.sha256(data).hexdigest() != known["image_digest"]:
                raise Lost("the image has another content than was uploaded")
            self._restart(user)
            second = self._boot(user, f"{NAME}-after", [{"uuid": self.ids["network"]}])
            self._remove(user, second)
        self.admin.identity.delete_user(self.ids["user"])
        self.admin.identity.delete_project(self.ids["project"])

    def _make_user(self, password: str) -> None:
        project = self.admin.identity.create_project(name=NAME, domain_id="default")
        user = self.admin.identity.create_user(
            name=NAME, password=password, domain_id="default", default_project_id=project.id
        )
        member = self.admin.identity.find_role("member", ignore_missing=False)
        self.admin.identity.assign_project_role_to_user(project, user, member)
        self.ids.update(project=project.id, user=user.id)

    def _user(self, password: str) -> Any:
        return self.admin.connect_as(
            username=NAME,
            password=password,
            project_name=NAME,
            user_domain_id="default",
            project_domain_id="default",
        )

    def _make_network(self, user: Any) -> None:
        network = user.network.create_network(name=NAME)
        subnet = user.network.create_subnet(
            name=NAME, network_id=network.id, ip_version=4, cidr="10.101.0.0/24", enable_dhcp=False
        )
        router = user.network.create_router(name=NAME)
        user.network.add_interface_to_router(router, subnet_id=subnet.id)
        port = user.network.create_port(name=NAME, network_id=network.id)
        self.ids.update(network=network.id, subnet=subnet.id, router=router.id, port=port.id)

    def _boot(self, user: Any, name: str, networks: list[dict[str, str]]) -> str:
        flavor = user.compute.find_flavor(self.settings["flavor"], ignore_missing=False)
        server = user.compute.create_server(
            name=name, flavor_id=flavor.id, image_id=self.ids["image"], networks=networks
        )
        self._wait_for_status(user, server.id, "ACTIVE")
        return str(server.id)

    def _wait_for_status(self, user: Any, server_id: str, wanted: str) -> None:
        def reached() -> bool:
            server = user.compute.get_server(server_id)
            if server.status == "ERROR":
                fault = (server.fault or {}).get("message", "none")
                raise Lost(f"the server {server.name} is in ERROR; nova's fault: {fault}")
            return bool(server.status == wanted)

        wait_for(f"a server is {wanted}", reached, self.seconds)

    def _wait_for_hosts(self) -> None:
        computes, agents = int(self.settings["computes"]), int(self.settings["agents"])
        wait_for(
            f"{computes} nova-compute services are up",
            lambda: (
                sum(s.state == "up" for s in self.admin.compute.services(binary="nova-compute")) >= computes
            ),
            self.seconds,
        )
        wait_for(
            f"{agents} network agents are alive",
            lambda: sum(bool(one.is_alive) for one in self.admin.network.agents()) >= agents,
            self.seconds,
        )

    def _facts(self, user: Any) -> dict[str, dict[str, Any]]:
        """Return what must be the same before and after an upgrade."""
        server = self.admin.compute.get_server(self.ids["server"])
        allocations = self.admin.placement.get(f"/allocations/{self.ids['server']}").json()["allocations"]
        taken = {
            "server": (server, ("name", "status", "image", "addresses", "compute_host", "created_at")),
            "image": (
                user.image.get_image(self.ids["image"]),
                ("name", "status", "checksum", "size", "visibility"),
            ),
            "network": (user.network.get_network(self.ids["network"]), ("name", "mtu", "subnet_ids")),
            "subnet": (user.network.get_subnet(self.ids["subnet"]), ("name", "cidr", "gateway_ip")),
            "router": (user.network.get_router(self.ids["router"]), ("name", "status")),
            "port": (
                self.admin.network.get_port(self.ids["port"]),
                ("name", "mac_address", "fixed_ips", "device_id", "security_group_ids", "binding_host_id"),
            ),
            "user": (self.admin.identity.get_user(self.ids["user"]), ("name", "default_project_id")),
        }
        facts = {kind: {name: plain(one[name]) for name in names} for kind, (one, names) in taken.items()}
        facts["allocations"] = {uuid: plain(one["resources"]) for uuid, one in allocations.items()}
        return facts

    def _restart(self, user: Any) -> None:
        """Use the server. The fake driver forgets its guests when it ends; a hard reboot brings them back."""
        user.compute.reboot_server(self.ids["server"], "HARD")
        self._wait_for_status(user, self.ids["server"], "ACTIVE")
        user.compute.stop_server(self.ids["server"])
        self._wait_for_status(user, self.ids["server"], "SHUTOFF")
        user.compute.start_server(self.ids["server"])
        self._wait_for_status(user, self.ids["server"], "ACTIVE")

    def _remove(self, user: Any, second: str) -> None:
        for server in (second, self.ids["server"]):
            user.compute.delete_server(server)
        wait_for("the servers are gone", lambda: not list(user.compute.servers(details=False)), self.seconds)
        user.network.remove_interface_from_router(self.ids["router"], subnet_id=self.ids["subnet"])
        user.network.delete_router(self.ids["router"])
        user.network.delete_port(self.ids["port"])
        user.network.delete_network(self.ids["network"])
        user.image.delete_image(self.ids["image"])


def plain(value: Any) -> Any:
    """Return a value as JSON gives it back."""
    return json.loads(
        json.dumps(value, default=lambda one: one.to_dict() if hasattr(one, "to_dict") else str(one))
    )


def write(path: Path, value: object) -> None:
    """Write a file that holds a secret."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as target:
        json.dump(value, target)


def main() -> int:
    """Return 1 where something was lost."""
    settings = json.loads(sys.argv[2])
    state = Path(settings["state"])
    try:
        with openstack.connect() as admin:
            resources = Resources(settings, admin)
            if sys.argv[1] == "create":
                write(state, resources.create())
            else:
                resources.verify(json.loads(state.read_text()))
    except (Lost, SDKException) as error:
        print(f"{sys.argv[1]} failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
