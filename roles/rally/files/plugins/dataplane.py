"""Rally scenarios that measure the data plane without hypervisors.

Ports are made through neutron, bound to real compute nodes and plugged there as network namespaces
(probes), as an instance's interface would be. What was measured beside the atomic actions stands in two
tables, SECONDS and RATES.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from neutronclient.common import exceptions as neutron_exceptions
from probe_client import Places, ProbeFailed, Probes, read_places
from rally import exceptions
from rally.task import atomic, validation
from rally_openstack.common import consts
from rally_openstack.task import scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SECONDS = "seconds beside the actions"
RATES = "rates"
"""Titles of the outputs in Rally's report; perfci/results reads them."""
TCP = 5201
DENIED_TCP = 5999
HEADERS = 28
"""Bytes of the headers of an ICMP echo request over IPv4."""
PINGS = 50
MOST_PAIRS = 100
CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 60.0
"""What a probe's answer may take longer than what it does."""
EXTERNAL_NETWORK = "203.0.113.0/24"
PHYSICAL_NETWORK = "external"


class DataPlaneWrong(exceptions.RallyException):
    """Packets go where they must not, or do not go where they must."""

    error_code = 904
    msg_fmt = "%(what)s"


class NoProbes(exceptions.RallyException):
    """The cloud has no nodes on which probes can be plugged, or they fail."""

    error_code = 905
    msg_fmt = "%(why)s"


def places() -> Places:
    """Return where probes can be."""
    return read_places(Path(os.environ["PERFCI_STATE_DIR"]) / "probes" / "places.json")


class _DataPlane(scenario.OpenStackScenario):
    """What the scenarios have in common."""

    @contextlib.contextmanager
    def _probes(self) -> Iterator[tuple[Probes, Probes, Probes | None, Places]]:
        """Give the probes of two computes, and those outside; None where nobody is outside.

        At the end the ports are deleted. Rally's clean-up would try as the tenant's user, who may not.
        """
        self._ports: list[str] = []
        try:
            with contextlib.ExitStack() as stack:
                where = places()
                if len(where.computes) < 2:  # noqa: PLR2004
                    raise NoProbes(why="two compute nodes are needed")
                started = {
                    host.name: stack.enter_context(Probes(host))
                    for host in {*where.computes[:2], *([where.outside] if where.outside else [])}
                }
                first, second = (started[host.name] for host in where.computes[:2])
                yield first, second, started[where.outside.name] if where.outside else None, where
        except ProbeFailed as error:
            raise NoProbes(why=str(error)) from error
        finally:
            for port in self._ports:
                with contextlib.suppress(neutron_exceptions.NotFound):
                    self.admin_clients("neutron").delete_port(port)

    def _network(self, cidr: str) -> dict[str, Any]:
        name = self.generate_random_name()
        neutron = self.clients("neutron")
        network: dict[str, Any] = neutron.create_network({"network": {"name": name}})["network"]
        subnet = {"network_id": network["id"], "ip_version": 4, "cidr": cidr, "name": name}
        network["subnet"] = neutron.create_subnet({"subnet": subnet})["subnet"]
        return network

    def _group(self) -> str:
        """Make a security group that lets in ICMP, and TCP to a few ports."""
        neutron = self.clients("neutron")
        body = {"security_group": {"name": self.generate_random_name()}}
        group: str = neutron.create_security_group(body)["security_group"]["id"]
        tcp: dict[str, Any] = {"protocol": "tcp", "port_range_min": TCP, "port_range_max": TCP + MOST_PAIRS}
        for rule in ({"protocol": "icmp"}, tcp):
            rule |= {"security_group_id": group, "direction": "ingress", "ethertype": "IPv4"}
            neutron.create_security_group_rule({"security_group_rule": rule})
        return group

    def _port(self, network: dict[str, Any], host: Probes, group: str) -> dict[str, Any]:
        """Make a port that is bound to a node, which only an administrator may, as nova does."""
        body = {
            "network_id": network["id"],
            "name": self.generate_random_name(),
            "tenant_id": self.context["tenant"]["id"],
            "binding:host_id": host.name,
            "device_owner": "compute:probe",
            "security_groups": [group],
        }
        port: dict[str, Any] = self.admin_clients("neutron").create_port({"port": body})["port"]
        self._ports.append(port["id"])
        if port["binding:vif_type"] in ("binding_failed", "unbound"):
            raise DataPlaneWrong(what=f"neutron can't bind a port to {host.name}: {port['binding:vif_type']}")
        return port

    def _plug(self, host: Probes, port: dict[str, Any], network: dict[str, Any]) -> str:
        """Plug a port, and return its address."""
        address: str = port["fixed_ips"][0]["ip_address"]
        length = network["subnet"]["cidr"].partition("/")[2]
        host.ask(
            "plug",
            port=port["id"],
            mac=port["mac_address"],
            address=f"{address}/{length}",
            gateway=network["subnet"]["gateway_ip"],
            mtu=network["mtu"],
        )
        return address

    def _end(self, network: dict[str, Any], host: Probes, group: str) -> _End:
        """Make and plug a port: one end of a path."""
        port = self._port(network, host, group)
        return _End(host, port["id"], self._plug(host, port, network))

    def _until_active(self, ends: Iterable[_End], limit_seconds: float) -> None:
        """Wait until the agents have wired all ports."""
        neutron = self.clients("neutron")
        until = time.monotonic() + limit_seconds
        for end in ends:
            while neutron.show_port(end.port)["port"]["status"] != "ACTIVE":
                if time.monotonic() > until:
                    raise DataPlaneWrong(what=f"a port on {end.host.name} is not ACTIVE in {limit_seconds} s")
                time.sleep(1)

    def _measure(
        self,
        name: str,
        pairs: list[tuple[_End, _End, str]],
        *,
        mtu: int,
        send_seconds: float,
        limit_seconds: float,
        is_guarded: bool = True,
    ) -> None:
        """Measure the paths between pairs of ends: sender, receiver, and the address that is sent to.

        `is_guarded`: a security group stands before the receivers, so what it does not let in must not come.
        """
        with atomic.ActionTimer(self, "dataplane.reach_all"):
            for sender, _, target in pairs:
                sender.host.ask(
                    "first_reply",
                    limit_seconds=limit_seconds + ANSWER_SECONDS,
                    port=sender.port,
                    target=target,
                    reply_seconds=limit_seconds,
                )
        sender, _, target = pairs[0]
        self._check_mtu(name, sender, target, mtu)
        for number, (_, receiver, _) in enumerate(pairs):
            receiver.host.ask("serve", port=receiver.port, tcp=TCP + number, address=receiver.address)
        if is_guarded:
            self._check_denial(name, pairs[0])
        trips = sender.host.ask("ping", port=sender.port, target=target, count=PINGS)["round_trips"]
        if len(trips) < PINGS:
            raise DataPlaneWrong(what=f"{name}: {PINGS - len(trips)} of {PINGS} pings were lost")
        seconds = [["round trip", statistics.median(trips)]]
        rates = [
            [f"{name}, {len(some)} pair{'s' if len(some) > 1 else ''}", self._send(some, send_seconds)]
            for some in ((pairs[:1], pairs) if len(pairs) > 1 else (pairs,))
        ]
        self._tell(SECONDS, ["action", "seconds"], seconds)
        self._tell(RATES, ["path", "megabits_per_second"], rates)

    def _check_mtu(self, name: str, sender: _End, target: str, mtu: int) -> None:
        found = sender.host.ask(
            "ping", port=sender.port, target=target, count=3, size=mtu - HEADERS, whole=True
        )
        if not found["round_trips"]:
            raise DataPlaneWrong(what=f"{name}: packets of {mtu} bytes do not arrive unfragmented")

    def _check_denial(self, name: str, pair: tuple[_End, _End, str]) -> None:
        sender, receiver, target = pair
        receiver.host.ask("serve", port=receiver.port, tcp=DENIED_TCP, address=receiver.address)
        for tcp, wanted in ((TCP, True), (DENIED_TCP, False)):
            found = sender.host.ask(
                "connect", port=sender.port, target=target, tcp=tcp, connect_seconds=CONNECT_SECONDS
            )
            if found["connected"] is not wanted:
                says = "lets in" if not wanted else "keeps out"
                raise DataPlaneWrong(what=f"{name}: the security group {says} TCP port {tcp}")

    def _send(self, pairs: list[tuple[_End, _End, str]], send_seconds: float) -> float:
        """Send over all pairs at once; return what comes out of all of them, in Mbit/s."""
        found = pairs[0][0].host.ask(
            "send",
            limit_seconds=send_seconds + ANSWER_SECONDS,
            pairs=[
                {"port": sender.port, "target": target, "tcp": TCP + number}
                for number, (sender, _, target) in enumerate(pairs)
            ],
            send_seconds=send_seconds,
        )
        return round(float(sum(found["bits_per_second"])) / 1e6, 1)

    def _tell(self, title: str, columns: list[str], rows: list[list[Any]]) -> None:
        data = {"cols": columns, "rows": rows}
        self.add_output(complete={"title": title, "chart_plugin": "Table", "data": data})

    @contextlib.contextmanager
    def _router(
        self, networks: list[dict[str, Any]], external: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Give a router between networks; it is removed at the end, as its ports keep all else in use."""
        neutron = self.clients("neutron")
        body: dict[str, Any] = {"name": self.generate_random_name()}
        if external:
            body["external_gateway_info"] = {"network_id": external["id"]}
        router = neutron.create_router({"router": body})["router"]
        try:
            for network in networks:
                neutron.add_interface_router(router["id"], {"subnet_id": network["subnet"]["id"]})
            yield router
        finally:
            for network in networks:
                with contextlib.suppress(neutron_exceptions.NotFound):
                    neutron.remove_interface_router(router["id"], {"subnet_id": network["subnet"]["id"]})
            neutron.delete_router(router["id"])

    @contextlib.contextmanager
    def _external_network(self, outside_address: str) -> Iterator[dict[str, Any]]:
        """Give the external network; only an administrator may make one."""
        neutron = self.admin_clients("neutron")
        body = {
            "name": self.generate_random_name(),
            "router:external": True,
            "provider:network_type": "flat",
            "provider:physical_network": PHYSICAL_NETWORK,
        }
        network = neutron.create_network({"network": body})["network"]
        try:
            subnet = {
                "network_id": network["id"],
                "ip_version": 4,
                "cidr": EXTERNAL_NETWORK,
                "gateway_ip": outside_address,
                "enable_dhcp": False,
            }
            neutron.create_subnet({"subnet": subnet})
            yield network
        finally:
            neutron.delete_network(network["id"])

    @contextlib.contextmanager
    def _floating_ip(self, external: dict[str, Any], port: str) -> Iterator[str]:
        neutron = self.clients("neutron")
        body = {"floating_network_id": external["id"], "port_id": port}
        found = neutron.create_floatingip({"floatingip": body})["floatingip"]
        try:
            yield found["floating_ip_address"]
        finally:
            neutron.delete_floatingip(found["id"])


# Not a dataclass: Rally does not enter this module into sys.modules, where a dataclass looks for types.
class _End(NamedTuple):
    """One end of a path. The port is empty where it is a node itself."""

    host: Probes
    port: str
    address: str


_validations = (
    validation.add("required_services", services=[consts.Service.NEUTRON]),
    validation.add("required_platform", platform="openstack", users=True, admin=True),
)


def _scenario(name: str) -> Callable[[type[_DataPlane]], type[_DataPlane]]:
    """Configure a scenario: what it needs, and that Rally removes what it makes."""

    def configured(cls: type[_DataPlane]) -> type[_DataPlane]:
        cls = scenario.configure(
            context={"cleanup@openstack": ["neutron"]}, name=f"DataPlane.{name}", platform="openstack"
        )(cls)
        for add in _validations:
            cls = add(cls)
        return cls

    return configured


@_scenario("first_packet")
class FirstPacket(_DataPlane):
    """How long a new port takes until it answers."""

    def run(self, limit_seconds: float = 120) -> None:
        """Make a port, plug it, and ping another one on the other compute until it answers.

        Atomic actions: dataplane.port_create_to_first_packet, which is what users feel, and inside it
        neutron.create_port, dataplane.plug and dataplane.wait_for_first_packet.

        :param limit_seconds: how long the first packet may take
        """
        with self._probes() as (here, there, _outside, _where):
            network, group = self._network("10.101.0.0/24"), self._group()
            peer = self._end(network, here, group)
            self._until_active([peer], limit_seconds)
            with atomic.ActionTimer(self, "dataplane.port_create_to_first_packet"):
                with atomic.ActionTimer(self, "neutron.create_port"):
                    port = self._port(network, there, group)
                with atomic.ActionTimer(self, "dataplane.plug"):
                    self._plug(there, port, network)
                with atomic.ActionTimer(self, "dataplane.wait_for_first_packet"):
                    there.ask(
                        "first_reply",
                        limit_seconds=limit_seconds + ANSWER_SECONDS,
                        port=port["id"],
                        target=peer.address,
                        reply_seconds=limit_seconds,
                    )


@_scenario("east_west")
class EastWest(_DataPlane):
    """One network, over the tunnel between two computes."""

    def run(self, pairs: int = 4, send_seconds: float = 5, limit_seconds: float = 120) -> None:
        """Measure between pairs of ports on two computes.

        :param pairs: how many pairs send at once, after a single one has
        :param send_seconds: how long they send, each time, after one in which TCP finds its pace
        :param limit_seconds: how long wiring and the first packet may take, each
        """
        with self._probes() as (here, there, _outside, _where):
            network, group = self._network("10.101.0.0/24"), self._group()
            ends = [(self._end(network, here, group), self._end(network, there, group)) for _ in range(pairs)]
            self._until_active([end for both in ends for end in both], limit_seconds)
            self._measure(
                "east-west",
                [(sender, receiver, receiver.address) for sender, receiver in ends],
                mtu=network["mtu"],
                send_seconds=send_seconds,
                limit_seconds=limit_seconds,
            )


@_scenario("east_west_routed")
class EastWestRouted(_DataPlane):
    """Two networks with a router between them."""

    def run(self, pairs: int = 4, send_seconds: float = 5, limit_seconds: float = 120) -> None:
        """Measure between pairs of ports on two computes, each in a network of its own.

        :param pairs: how many pairs send at once, after a single one has
        :param send_seconds: how long they send, each time, after one in which TCP finds its pace
        :param limit_seconds: how long wiring and the first packet may take, each
        """
        with self._probes() as (here, there, _outside, _where):
            near, far, group = self._network("10.101.0.0/24"), self._network("10.102.0.0/24"), self._group()
            with self._router([near, far]):
                ends = [(self._end(near, here, group), self._end(far, there, group)) for _ in range(pairs)]
                self._until_active([end for both in ends for end in both], limit_seconds)
                self._measure(
                    "east-west routed",
                    [(sender, receiver, receiver.address) for sender, receiver in ends],
                    mtu=min(near["mtu"], far["mtu"]),
                    send_seconds=send_seconds,
                    limit_seconds=limit_seconds,
                )


@_scenario("north_south")
class NorthSouth(_DataPlane):
    """Through a router to the external network, or in from there."""

    def run(
        self,
        floating_ip: bool = False,  # noqa: FBT001, FBT002 - Rally names arguments
        pairs: int = 4,
        send_seconds: float = 5,
        limit_seconds: float = 120,
    ) -> None:
        """Measure from ports on a compute to the external network, or to their floating IPs from there.

        :param floating_ip: in from outside to floating IPs; otherwise out, with source addresses translated
        :param pairs: how many ports send or receive at once, after a single one has
        :param send_seconds: how long they send, each time, after one in which TCP finds its pace
        :param limit_seconds: how long wiring and the first packet may take, each
        """
        with self._probes() as (here, _there, outside, where), contextlib.ExitStack() as stack:
            if outside is None:
                raise NoProbes(why="there is no node of the external network")
            node = _End(outside, "", where.outside_address)
            network, group = self._network("10.101.0.0/24"), self._group()
            external = stack.enter_context(self._external_network(where.outside_address))
            stack.enter_context(self._router([network], external))
            ends = [self._end(network, here, group) for _ in range(pairs)]
            self._until_active(ends, limit_seconds)
            if floating_ip:
                ways = [
                    (node, end, stack.enter_context(self._floating_ip(external, end.port))) for end in ends
                ]
            else:
                ways = [(end, node, node.address) for end in ends]
            self._measure(
                "north-south, floating IP" if floating_ip else "north-south, SNAT",
                ways,
                mtu=min(network["mtu"], external["mtu"]),
                send_seconds=send_seconds,
                limit_seconds=limit_seconds,
                is_guarded=floating_ip,
            )
