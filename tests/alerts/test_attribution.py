"""Which project a series is blamed on, among all that moved with it."""

from __future__ import annotations

import time

from perfci.alerts.attribution import blame
from perfci.analysis.types import Judgement, Outcome
from perfci.results.model import Metric, SeriesKey

PORTS, BOOT = "NeutronNetworks.create_and_list_ports", "NovaServers.boot_and_delete_server"


def moved(scenario, action, low, metric=Metric.SECONDS, arguments="a0"):
    key = SeriesKey("lab", "job", scenario, arguments, action, metric)
    return Judgement(key, "run", Outcome.REGRESSION, "slower", effect=low + 0.1, low=low, high=low + 0.2)


def blamed(series, *changed):
    return {key.action: service for key, service in blame(series, frozenset(changed)).items()}


def test_one_changed_project_is_to_blame_for_all():
    series = [moved(PORTS, "total", 0.1), moved(BOOT, "nova.boot_server", 0.2)]
    assert set(blamed(series, "keystone").values()) == {"keystone"}


def test_without_changes_each_series_is_its_own_projects():
    series = [moved(BOOT, "nova.boot_server", 0.2), moved(BOOT, "neutron-api", 0.2, Metric.CPU_SECONDS)]
    assert blamed(series) == {"nova.boot_server": "nova", "neutron-api": "neutron"}


def test_a_whole_iteration_is_its_clearest_actions():
    actions = [moved(BOOT, "nova.boot_server", 0.1), moved(BOOT, "neutron.create_port", 0.4)]
    whole, other = moved(BOOT, "total", 0.2), moved(BOOT, "total", 0.3, arguments="b1")
    services = blame([whole, *actions, other], frozenset())
    assert services[whole.key] == "neutron"
    assert services[other.key] == "nova", "its own actions did not move, so the scenario tells"
    assert services == blame([other, *reversed(actions), whole], frozenset())


def test_what_did_not_change_is_blamed_on_the_clearest_that_did():
    series = [
        moved(BOOT, "nova.boot_server", 0.9),
        moved(PORTS, "neutron.create_port", 0.2),
        moved(BOOT, "keystone", 0.3, Metric.CPU_SECONDS),
    ]
    assert blamed(series, "neutron", "keystone") == {
        "nova.boot_server": "keystone",
        "neutron.create_port": "neutron",
        "keystone": "keystone",
    }
    assert blamed(series, "glance", "cinder")["nova.boot_server"] == "nova", "none of these has moved"


def test_thousands_that_moved_together_take_no_longer_each():
    series = [
        moved(BOOT, action, 0.1 + n / 1e5, arguments=f"{n:08x}")
        for n in range(2000)
        for action in ("total", "nova.boot_server", "neutron.create_port")
    ]
    begun = time.process_time()
    services = blame(series, frozenset({"nova", "neutron"}))
    assert len(services) == 6000
    assert time.process_time() - begun < 3, "each looking at all others takes minutes"
