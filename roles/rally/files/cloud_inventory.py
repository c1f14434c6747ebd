"""What there is in an OpenStack cloud, as its administrator sees it; see leftovers.Inventory."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from glanceclient import exc as glance_exceptions
from keystoneauth1 import exceptions as keystone_exceptions
from leftovers import InventoryFailed
from neutronclient.common import exceptions as neutron_exceptions
from novaclient import exceptions as nova_exceptions
from rally.exceptions import RallyException
from rally_openstack.common import osclients

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rally_openstack.common.credential import OpenStackCredential

_RALLYS_NAME = re.compile(r"[cs]_rally_\w{8}_\w{8}")
_INTERFACES = ("network:router_interface", "network:router_gateway", "network:ha_router_replicated_interface")
_GONE = (
    keystone_exceptions.NotFound,
    nova_exceptions.NotFound,
    neutron_exceptions.NotFound,
    glance_exceptions.HTTPNotFound,
)
_ERRORS = (
    keystone_exceptions.ClientException,
    nova_exceptions.ClientException,
    neutron_exceptions.NeutronException,
    glance_exceptions.ClientException,
    RallyException,
)


class CloudInventory:
    """Asks the services that the cloud has; of the others there is nothing.

    Users and projects count where their names are of the form that Rally gives them.
    """

    def __init__(self, credential: OpenStackCredential, services: list[str]) -> None:
        self._credential = credential
        self._services = services
        self._clients = osclients.Clients(credential)

    def list(self, kind: str) -> dict[str, str]:
        """Return the names of all things of a kind by id."""
        with _told(f"list of every {kind}"):
            if kind in ("user", "project"):
                return self._identities(kind)
            if kind == "server":
                return self._servers() if "nova" in self._services else {}
            if kind == "image":
                return self._images() if "glance" in self._services else {}
            return self._of_neutron(kind) if "neutron" in self._services else {}

    def remove(self, kind: str, thing: str) -> None:
        """Remove one thing; one that is gone already is no error."""
        with _told(f"removal of the {kind} {thing}"), contextlib.suppress(*_GONE):
            if kind == "router":
                self._empty_router(thing)
            {
                "server": lambda: self._clients.nova().servers.delete(thing),
                "image": lambda: self._clients.glance().images.delete(thing),
                "user": lambda: self._clients.keystone().users.delete(thing),
                "project": lambda: self._clients.keystone().projects.delete(thing),
                "floating IP": lambda: self._clients.neutron().delete_floatingip(thing),
                "router": lambda: self._clients.neutron().delete_router(thing),
                "port": lambda: self._clients.neutron().delete_port(thing),
                "network": lambda: self._clients.neutron().delete_network(thing),
                "security group": lambda: self._clients.neutron().delete_security_group(thing),
            }[kind]()

    def _identities(self, kind: str) -> dict[str, str]:
        keystone = self._clients.keystone()
        found = keystone.users.list() if kind == "user" else keystone.projects.list()
        return {one.id: one.name for one in found if _RALLYS_NAME.fullmatch(one.name)}

    def _servers(self) -> dict[str, str]:
        found = self._clients.nova().servers.list(detailed=False, search_opts={"all_tenants": True}, limit=-1)
        return {one.id: one.name for one in found}

    def _images(self) -> dict[str, str]:
        return {one["id"]: one["name"] for one in self._clients.glance().images.list()}

    def _of_neutron(self, kind: str) -> dict[str, str]:
        neutron = self._clients.neutron()
        names: dict[str, tuple[Any, str, str]] = {
            "floating IP": (neutron.list_floatingips, "floatingips", "floating_ip_address"),
            "router": (neutron.list_routers, "routers", "name"),
            "port": (neutron.list_ports, "ports", "name"),
            "network": (neutron.list_networks, "networks", "name"),
            "security group": (neutron.list_security_groups, "security_groups", "name"),
        }
        ask, key, name = names[kind]
        return {one["id"]: one[name] for one in ask(fields=["id", name])[key]}

    def _empty_router(self, router: str) -> None:
        neutron = self._clients.neutron()
        neutron.remove_gateway_router(router)
        for port in neutron.list_ports(device_id=router)["ports"]:
            if port["device_owner"] in _INTERFACES:
                with contextlib.suppress(neutron_exceptions.NotFound):
                    neutron.remove_interface_router(router, {"port_id": port["id"]})


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        raise InventoryFailed(f"{what}: {type(error).__name__}: {error}") from error
