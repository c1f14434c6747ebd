"""A Rally scenario: fill the cloud with servers until a limit, and measure it as it fills.

What happens in which order is decided in density_steps.py, which knows nothing of Rally. The servers
are left: removing thousands of them one by one takes as long as booting them, and the next run deploys
from empty databases.
"""

from __future__ import annotations

import collections
import contextlib
import ipaddress
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import density_steps
from keystoneauth1 import exceptions as keystone_exceptions
from neutronclient.common import exceptions as neutron_exceptions
from novaclient import exceptions as nova_exceptions
from rally import exceptions
from rally.common import logging
from rally.task import types, validation
from rally_openstack.common import consts, osclients
from rally_openstack.task import scenario
from rally_openstack.task.scenarios.nova import utils

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOG = logging.getLogger(__name__)
PAGE = 100
"""How many servers the timed list asks for, as a dashboard's page does."""
SUBNETS = ipaddress.ip_network("10.0.0.0/8")
SUBNET_PREFIX = 20
SERVERS_PER_NETWORK = 4000
BATCH_POLL_SECONDS = 1.0
PROBE_POLL_SECONDS = 0.2


class NothingFits(exceptions.RallyException):
    """The fill ended before the first step was whole."""

    error_code = 903
    msg_fmt = "no server was booted: %(reason)s: %(text)s"


@types.convert(image={"type": "glance_image"}, flavor={"type": "nova_flavor"})
@validation.add("number", param_name="servers", minval=1, integer_only=True)
@validation.add("number", param_name="networks", minval=1, maxval=4096, integer_only=True)
@validation.add("number", param_name="step", minval=1, integer_only=True)
@validation.add("number", param_name="probes", minval=1, integer_only=True)
@validation.add("number", param_name="budget_seconds", minval=1)
@validation.add("number", param_name="boot_limit_seconds", minval=0.1)
@validation.add("number", param_name="error_share", minval=0, maxval=1)
@validation.add("number", param_name="memory_share", minval=0, maxval=1)
@validation.add("required_services", services=[consts.Service.NOVA, consts.Service.NEUTRON])
@validation.add("required_platform", platform="openstack", users=True)
@scenario.configure(name="Density.fill_with_servers", platform="openstack")
class FillWithServers(utils.NovaScenario):
    """Fill the cloud with servers, and leave them there."""

    def run(  # noqa: PLR0917
        self,
        image: str,
        flavor: str,
        servers: int = 1000,
        networks: int = 20,
        step: int = 50,
        probes: int = 4,
        budget_seconds: float = 3600,
        boot_limit_seconds: float = 60,
        error_share: float = 0.02,
        memory_share: float = 0.05,
    ) -> None:
        """Boot servers, step by step, until the target or the first limit.

        There are no atomic actions: they would be added up over all steps. What was measured is in the
        outputs: a table of the steps, a table of the single measurements, and which limit ended it.

        :param image: image of the servers
        :param flavor: flavor of the servers
        :param servers: the target
        :param networks: over how many networks they are spread, evenly
        :param step: servers of a step; after each one the cloud is measured
        :param probes: how many of them are booted one by one, and timed
        :param budget_seconds: time limit
        :param boot_limit_seconds: limit of a boot: the median of a step's single ones
        :param error_share: limit of failed servers by all of them
        :param memory_share: limit of the memory available on the machine that runs Rally, 0..1
        """
        if servers > networks * SERVERS_PER_NETWORK:
            message = f"{servers} servers need more than {networks} networks"
            raise exceptions.InvalidArgumentsException(message)
        fill = density_steps.Fill(
            cloud=_OpenStack(self, image, flavor),
            limits=density_steps.Limits(
                servers, budget_seconds, boot_limit_seconds, error_share, memory_share
            ),
            networks=networks,
            step=step,
            probes=probes,
            clock=time.time,
            say=LOG.info,
        )
        end = fill.run()
        if not fill.steps:
            raise NothingFits(reason=end.reason, text=end.text)
        for output in density_steps.outputs(fill, end):
            self.add_output(complete=output)


class _OpenStack:
    """The cloud as a tenant sees it; see density_steps.Cloud."""

    def __init__(self, owner: FillWithServers, image: str, flavor: str) -> None:
        self._owner = owner
        self._image = image
        self._flavor = flavor
        self._nova = owner.clients("nova")
        self._neutron = owner.clients("neutron")
        self._subnets = SUBNETS.subnets(new_prefix=SUBNET_PREFIX)
        self._network: str | None = None
        self._server: str | None = None

    def add_network(self) -> str:
        name = self._owner.generate_random_name()
        with _told("network"):
            network: str = self._neutron.create_network({"network": {"name": name}})["network"]["id"]
            subnet = {"network_id": network, "ip_version": 4, "cidr": str(next(self._subnets)), "name": name}
            self._neutron.create_subnet({"subnet": subnet})
        self._network = network
        return network

    def boot(self, network: str, count: int, limit_seconds: float) -> density_steps.Booted:
        name = self._owner.generate_random_name()
        since = time.monotonic()
        with _told("boot"):
            self._server = self._nova.servers.create(
                name, self._image, self._flavor, min_count=count, max_count=count, nics=[{"net-id": network}]
            ).id
            seconds, found = self._wait(name, count, since, limit_seconds)
        states = collections.Counter(server.status for server in found)
        faults = [getattr(s, "fault", {}).get("message", "nothing") for s in found if s.status == "ERROR"]
        return density_steps.Booted(
            seconds=seconds,
            active=states["ACTIVE"],
            failed=states["ERROR"],
            waiting=count - states["ACTIVE"] - states["ERROR"],
            fault=faults[0] if faults else "",
        )

    def _wait(self, name: str, count: int, since: float, limit_seconds: float) -> tuple[float, list[Any]]:
        """Return the seconds until none was being built, or the limit was over, and all servers then."""
        while True:
            is_built = not self._being_built(name, count)
            seconds = time.monotonic() - since
            if is_built or seconds > limit_seconds:
                found = self._nova.servers.list(search_opts={"name": name}, limit=-1)
                settled = sum(server.status in ("ACTIVE", "ERROR") for server in found)
                if settled == count or seconds > limit_seconds:
                    return seconds, found
            time.sleep(BATCH_POLL_SECONDS if count > 1 else PROBE_POLL_SECONDS)

    def _being_built(self, name: str, count: int) -> bool:
        """Ask only for what is being built, or for the one server: cheap while there are many."""
        if count == 1:
            return bool(self._nova.servers.get(self._server).status == "BUILD")
        search = {"name": name, "status": "BUILD"}
        return bool(self._nova.servers.list(detailed=False, search_opts=search))

    def answer_seconds(self) -> dict[str, float]:
        requests: dict[str, Callable[[], Any]] = {
            "authenticate": self._authenticate,
            "list a page of servers": lambda: self._nova.servers.list(limit=PAGE),
            "list a network's ports": lambda: self._neutron.list_ports(network_id=self._network),
        }
        found = {}
        for name, request in requests.items():
            since = time.monotonic()
            with _told(name):
                request()
            found[name] = time.monotonic() - since
        return found

    def _authenticate(self) -> Any:
        """Ask for a new token, as a client does that was just started."""
        return osclients.Clients(self._owner.context["user"]["credential"]).keystone.auth_ref

    def memory_share(self) -> float:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        return sizes["MemAvailable"] / sizes["MemTotal"]


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn the clients' errors into those that end the fill."""
    try:
        yield
    except (nova_exceptions.Forbidden, neutron_exceptions.OverQuotaClient) as error:
        raise density_steps.QuotaReached(str(error)) from error
    except (
        nova_exceptions.ClientException,
        neutron_exceptions.NeutronException,
        keystone_exceptions.ClientException,
        osclients.AuthenticationFailed,
    ) as error:
        raise density_steps.CloudFailed(f"{what}: {type(error).__name__}: {error}") from error
