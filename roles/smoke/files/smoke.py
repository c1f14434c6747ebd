"""Does the cloud work? Wait for its computes and agents, map the hosts, boot one server and delete it.

usage: smoke.py SETTINGS (JSON, see vars/main.yml). OS_CLIENT_CONFIG_FILE and OS_CLOUD say which cloud.
The flavor and the image stay; the network and the server are removed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openstack
from openstack.exceptions import SDKException

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGE_BYTES = 1024
POLL_SECONDS = 0.3


class NotWorking(Exception):
    """The cloud does not do what it must."""


def wait_for(what: str, count: Callable[[], int], wanted: int, seconds: float) -> None:
    """Wait until something is there as often as it must be. Raises NotWorking."""
    deadline = time.monotonic() + seconds
    while (found := count()) < wanted:
        if time.monotonic() > deadline:
            raise NotWorking(f"{found} of {wanted} {what} after {seconds:.0f} s")
        time.sleep(POLL_SECONDS)


def wait_for_hosts(cloud: Any, settings: dict[str, Any]) -> None:
    seconds = float(settings["report_seconds"])
    wait_for(
        "nova-compute services are up (see logs/nova-compute.log)",
        lambda: sum(s.state == "up" for s in cloud.compute.services(binary="nova-compute")),
        int(settings["computes"]),
        seconds,
    )
    wait_for(
        "network agents are alive (see logs/fake-agents.log and neutron-*-agent.log)",
        lambda: sum(bool(agent.is_alive) for agent in cloud.network.agents()),
        int(settings["agents"]),
        seconds,
    )


def map_hosts(cloud: Any, settings: dict[str, Any]) -> None:
    """Map the hosts into their cell; a host counts once it has written its record of resources."""
    command = settings["discover"]

    def mapped() -> int:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            raise NotWorking(f"{' '.join(command)} failed: {done.stdout}{done.stderr}")
        return sum(1 for _ in cloud.compute.hypervisors())

    wait_for("hypervisors are mapped", mapped, int(settings["computes"]), float(settings["report_seconds"]))


def make_content(cloud: Any, settings: dict[str, Any]) -> tuple[Any, Any]:
    """Make the flavor and the image where they are missing."""
    flavor = cloud.compute.find_flavor(settings["flavor"]) or cloud.compute.create_flavor(
        name=settings["flavor"], vcpus=1, ram=64, disk=1
    )
    path = Path(settings["image_file"])
    if not path.exists():
        path.write_bytes(b"\0" * IMAGE_BYTES)
    image = cloud.image.find_image(settings["image"]) or cloud.create_image(
        settings["image"],
        filename=str(path),
        disk_format="raw",
        container_format="bare",
        visibility="public",
        wait=True,
    )
    return flavor, image


def boot(cloud: Any, settings: dict[str, Any], flavor: Any, image: Any) -> float:
    """Boot one server on a network of its own; return the seconds until it was ACTIVE. Raises NotWorking."""
    network = cloud.network.create_network(name="perfci-smoke")
    try:
        check_mtu(network.mtu, int(settings["network_mtu"]))
        cloud.network.create_subnet(
            name="perfci-smoke", network_id=network.id, ip_version=4, cidr="10.100.0.0/24", enable_dhcp=False
        )
        began = time.monotonic()
        server = cloud.compute.create_server(
            name="perfci-smoke", flavor_id=flavor.id, image_id=image.id, networks=[{"uuid": network.id}]
        )
        try:
            check(wait_for_server(cloud, server, float(settings["boot_seconds"])))
            return time.monotonic() - began
        finally:
            cloud.compute.delete_server(server)
            cloud.compute.wait_for_delete(server, interval=POLL_SECONDS, wait=60)
    finally:
        cloud.delete_network(network.id)


def check_mtu(found: int, wanted: int) -> None:
    """Raise NotWorking where neutron did not work out the MTU that the tunnels have room for."""
    if wanted and found != wanted:
        raise NotWorking(f"a network of a project has an MTU of {found} in place of {wanted}")


def wait_for_server(cloud: Any, server: Any, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        server = cloud.compute.get_server(server.id)
        if server.status in {"ACTIVE", "ERROR"}:
            break
        time.sleep(POLL_SECONDS)
    return server


def check(server: Any) -> None:
    """Raise NotWorking unless a server is ACTIVE and has an address."""
    if server.status != "ACTIVE":
        fault = server.fault or {}
        raise NotWorking(
            f"the server is {server.status} in place of ACTIVE (task: {server.task_state}). "
            f"nova's fault: {fault.get('message', 'none')} {fault.get('details', '')}"
        )
    if not any(server.addresses.values()):
        raise NotWorking(f"the server on {server.compute_host} has no address")


def main() -> int:
    settings = json.loads(sys.argv[1])
    seconds = {}
    began = time.monotonic()
    try:
        with openstack.connect() as cloud:
            wait_for_hosts(cloud, settings)
            seconds["hosts"] = round(time.monotonic() - began, 2)
            map_hosts(cloud, settings)
            seconds["mapped"] = round(time.monotonic() - began, 2)
            flavor, image = make_content(cloud, settings)
            seconds["boot"] = round(boot(cloud, settings, flavor, image), 2)
    except (NotWorking, SDKException) as error:
        print(f"smoke test failed: {error}", file=sys.stderr)
        return 1
    print(json.dumps({**seconds, "total": round(time.monotonic() - began, 2)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
