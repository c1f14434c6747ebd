"""Report the state of pretend Open vSwitch agents over neutron's real RPC.

ML2's openvswitch driver binds a port only on a host with a live L2 agent. If these reports stop, every
later boot ends in ERROR; so the program ends with status 1 when they fail for good.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import oslo_service.backend

# Before anything else of OpenStack is loaded, which would choose another one.
oslo_service.backend.init_backend(oslo_service.backend.BackendType.THREADING)

import oslo_messaging  # noqa: E402
from neutron.agent import rpc as agent_rpc  # noqa: E402
from neutron.common import config  # noqa: E402
from neutron.conf.agent import common as agent_conf  # noqa: E402
from neutron_lib import context  # noqa: E402
from neutron_lib.agent import topics  # noqa: E402
from oslo_config import cfg  # noqa: E402

RETRY_SECONDS = 1
CALL_SECONDS = 2
AGENTS_PER_SUBNET = 250


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--host", default="{prefix}-{number:03d}", help="how hosts are named")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--interval-seconds", type=float, default=60)
    parser.add_argument("--give-up-seconds", type=float, default=120)
    parser.add_argument("--config-file", required=True)
    return parser.parse_args()


def state(host: str, number: int) -> dict[str, Any]:
    """Return what the agent of one host says about itself."""
    subnet, address = divmod(number - 1, AGENTS_PER_SUBNET)
    return {
        "binary": "neutron-openvswitch-agent",
        "host": host,
        "topic": "N/A",
        "agent_type": "Open vSwitch agent",
        "configurations": {
            "bridge_mappings": {},
            "tunnel_types": ["vxlan"],
            "tunneling_ip": f"10.255.{subnet}.{address + 1}",
            "l2_population": False,
            "arp_responder_enabled": False,
            "datapath_type": "system",
            "ovs_capabilities": {"datapath_types": ["netdev", "system"], "iface_types": ["vxlan", "tap"]},
            "vhostuser_socket_dir": "/var/run/openvswitch",
            "ovs_hybrid_plug": False,
            "in_distributed_mode": False,
            "resource_provider_bandwidths": {},
            "devices": 0,
        },
    }


def report(api: Any, options: argparse.Namespace, started: set[int]) -> str:
    """Report all agents; return what went wrong, empty where nothing did."""
    admin = context.get_admin_context_without_session()
    for number in range(1, options.count + 1):
        agent = state(options.host.format(prefix=options.prefix, number=number), number)
        first = number not in started
        if first:
            agent["start_flag"] = True
        try:
            # The first report waits for neutron's answer; later ones are only sent.
            api.report_state(admin, agent, use_call=first)
        except (oslo_messaging.MessagingException, OSError) as error:
            return f"{type(error).__name__}: {error}"
        started.add(number)
    return ""


def main() -> int:
    options = arguments()
    agent_conf.register_agent_state_opts_helper(cfg.CONF)
    config.register_common_config_options()
    config.init(["--config-file", options.config_file])
    api = agent_rpc.PluginReportStateAPI(topics.REPORTS)
    # The server may still be starting: its queue is missing then, and an answer never comes.
    api.timeout = CALL_SECONDS
    started: set[int] = set()
    last_success = time.monotonic()
    while time.monotonic() - last_success < options.give_up_seconds:
        problem = report(api, options, started)
        print(f"{len(started)} of {options.count} agents reported {problem}".strip(), flush=True)
        if problem:
            time.sleep(RETRY_SECONDS)
            continue
        time.sleep(options.interval_seconds)
        last_success = time.monotonic()
    print(f"no report came through for {options.give_up_seconds:.0f} s: giving up", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
