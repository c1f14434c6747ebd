"""What the schemas of OpenStack's services do not say of themselves, for the rows that are made for them."""

from __future__ import annotations

from rows import Facts, Reference

FACTS = {
    "nova_cell1": Facts(
        references={
            # Where an instance runs; nova fills in the id of that compute node later on, online.
            "instances": (
                Reference(("host", "node"), "compute_nodes", ("host", "hypervisor_hostname"), optional=False),
            ),
        },
        values={
            "compute_nodes": {
                "supported_instances": "[]",
                "host_ip": "192.0.2.1",
                "pci_stats": None,
                "numa_topology": None,
                "metrics": "[]",
            },
            "instance_info_caches": {"network_info": "[]"},
            "instances": {"compute_id": None},
        },
    ),
    "placement": Facts(
        # One migration stops where the root of a provider is missing, another one where a consumer is.
        references={
            "resource_providers": (
                Reference(("root_provider_id",), "resource_providers", ("id",), optional=False),
            ),
            "inventories": (
                Reference(("resource_provider_id",), "resource_providers", ("id",), optional=False),
            ),
            "allocations": (
                Reference(("consumer_id",), "consumers", ("uuid",), optional=False),
                Reference(("resource_provider_id",), "resource_providers", ("id",), optional=False),
            ),
        },
    ),
}
"""By database; those left out have nothing of the kind."""
