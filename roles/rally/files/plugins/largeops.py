"""A Rally scenario: one request for many servers, all of them ACTIVE, all of them deleted.

Rally's own NovaServers.boot_and_delete_multiple_servers waits for one server after the other, with
one request each per poll: at a hundred servers Rally's polling is a load of its own, and the moment
when the last server became ACTIVE is lost. Here each poll is one list request without details.
"""

from __future__ import annotations

import collections
import time
from typing import Any

from rally import exceptions
from rally.task import atomic, types, validation
from rally_openstack.common import consts
from rally_openstack.task import scenario
from rally_openstack.task.scenarios.nova import utils


class StormFailed(exceptions.RallyException):
    """A server went to ERROR; carries its fault."""

    error_code = 901
    msg_fmt = "%(errors)d of %(servers)d servers are in ERROR; the first one, %(name)s, says: %(fault)s"


class StormIncomplete(exceptions.RallyException):
    """Not all servers got to where they should in time."""

    error_code = 902
    msg_fmt = "after %(seconds)d s %(seen)s, expected %(expected)s"


@types.convert(image={"type": "glance_image"}, flavor={"type": "nova_flavor"})
@validation.add("number", param_name="servers", minval=1, integer_only=True)
@validation.add("number", param_name="poll_seconds", minval=0.1)
@validation.add("number", param_name="timeout_seconds", minval=1)
@validation.add("required_services", services=[consts.Service.NOVA])
@validation.add("required_platform", platform="openstack", users=True, admin=True)
@scenario.configure(
    context={"cleanup@openstack": ["nova"]}, name="LargeOps.boot_and_delete_storm", platform="openstack"
)
class BootAndDeleteStorm(utils.NovaScenario):
    """Boot `servers` servers with one request and delete them."""

    def run(
        self,
        image: str,
        flavor: str,
        servers: int = 100,
        poll_seconds: float = 1.0,
        timeout_seconds: float = 480,
    ) -> None:
        """Boot many servers with one request, wait until all are ACTIVE, delete all of them.

        Atomic actions: nova.accept_servers (the request until nova's answer), nova.boot_servers (from
        the answer until none is in BUILD), nova.check_servers (one detailed list), nova.delete_servers
        (from the first delete request until none is left).

        :param image: image of the servers
        :param flavor: flavor of the servers
        :param servers: how many
        :param poll_seconds: seconds between two lists
        :param timeout_seconds: limit for the boots, and again for the deletions
        """
        prefix = self.generate_random_name()
        networks = self.context["tenant"].get("networks", [])
        nova = self.clients("nova")
        with atomic.ActionTimer(self, "nova.accept_servers"):
            nova.servers.create(
                prefix,
                image,
                flavor,
                min_count=servers,
                max_count=servers,
                nics=[{"net-id": networks[0]["id"]}] if networks else "none",
            )
        with atomic.ActionTimer(self, "nova.boot_servers"):
            self._wait_until_none(poll_seconds, timeout_seconds, name=prefix, status="BUILD")
        booted = self._check(prefix, servers, timeout_seconds)
        self._report_spread(booted)
        with atomic.ActionTimer(self, "nova.delete_servers"):
            for server in booted:
                nova.servers.delete(server.id)
            self._wait_until_none(poll_seconds, timeout_seconds, name=prefix)

    def _wait_until_none(self, poll_seconds: float, timeout_seconds: float, **search: str) -> None:
        limit = time.monotonic() + timeout_seconds
        while left := self.clients("nova").servers.list(detailed=False, search_opts=search):
            if time.monotonic() > limit:
                raise StormIncomplete(
                    seconds=timeout_seconds, seen=f"{len(left)} match {search}", expected="none"
                )
            time.sleep(poll_seconds)

    @atomic.action_timer("nova.check_servers")
    def _check(self, prefix: str, expected: int, timeout_seconds: float) -> list[Any]:
        """Return all servers as the administrator sees them: with their hosts and their faults."""
        search = {"name": prefix, "all_tenants": True}
        found: list[Any] = self.admin_clients("nova").servers.list(search_opts=search, limit=-1)
        failed = sorted((s for s in found if s.status == "ERROR"), key=lambda s: s.name)
        if failed:
            fault = getattr(failed[0], "fault", {}).get("message", "nothing")
            raise StormFailed(errors=len(failed), servers=expected, name=failed[0].name, fault=fault)
        states = collections.Counter(s.status for s in found)
        if states != {"ACTIVE": expected}:
            raise StormIncomplete(seconds=timeout_seconds, seen=dict(states), expected={"ACTIVE": expected})
        return found

    def _report_spread(self, servers: list[Any]) -> None:
        hosts = collections.Counter(getattr(s, "OS-EXT-SRV-ATTR:host", None) or "?" for s in servers)
        self.add_output(
            complete={
                "title": "Servers per compute",
                "description": "How the scheduler spread the storm",
                "chart_plugin": "Table",
                "data": {"cols": ["compute", "servers"], "rows": [[h, n] for h, n in sorted(hosts.items())]},
            }
        )
