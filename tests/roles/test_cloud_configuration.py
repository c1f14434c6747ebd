"""The configuration of all services, really written by the roles, for a cloud on several machines."""

import configparser
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from programs import needs

ROOT = Path(__file__).parents[2]
CONFIGURED = (
    "mariadb",
    "rabbitmq",
    "keystone",
    "placement",
    "glance",
    "nova",
    "neutron",
    "fake_compute",
    "fake_agents",
    "influxdb",
)
PASTE = "[composite:neutron]\nuse = egg:Paste#urlmap\n/v2.0: api\n\n[app:api]\npaste.app_factory = x:y\n"


def play(tmp_path, tasks, variables, limit_seconds=100):
    """Run tasks in the embedded inventory; return what Ansible printed."""
    playbook = tmp_path / "play.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "cloud", "name": "Try", "tasks": tasks}]))
    (tmp_path / "variables.yml").write_text(yaml.safe_dump(variables))
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        str(ROOT / "inventory" / "embedded"),
    ]
    done = subprocess.run(
        [*command, str(playbook), "-e", f"@{tmp_path / 'variables.yml'}"],
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_HOME": str(tmp_path / "ansible"),
        },
        capture_output=True,
        text=True,
        timeout=limit_seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def role(name, verb, **variables):
    return {
        "name": f"{name} {verb}",
        "ansible.builtin.import_role": {"name": name, "tasks_from": verb},
        **({"vars": variables} if variables else {}),
    }


def only_variables(name):
    """A role of which only the variables are wanted."""
    return {**role(name, "start"), "when": False}


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """The state folder after the configuration of every service."""
    tmp_path = tmp_path_factory.mktemp("cloud")
    services = ("mariadb", "rabbitmq", "memcached", "keystone", "placement", "glance", "nova", "neutron")
    folder = tmp_path / "state"
    venv = tmp_path / "venv"
    (venv / "etc" / "neutron").mkdir(parents=True)
    (venv / "etc" / "neutron" / "api-paste.ini").write_text(PASTE)
    (tmp_path / "slow.py").write_text("def factory(conf):\n    return lambda app: app\n")
    play(
        tmp_path,
        [
            role("secrets", "config"),
            *(role(name, "config") for name in CONFIGURED),
            {
                "name": "What would run",
                "ansible.builtin.copy": {
                    "content": "{{ {'units': "
                    + " + ".join(f"{n}_units" for n in services)
                    + " + fake_compute_units"
                    " + fake_agents_units, 'changes': neutron_changes} | to_json }}",
                    "dest": str(tmp_path / "units.json"),
                    "mode": "0600",
                },
            },
            only_variables("memcached"),
        ],
        {
            "perfci_state_dir": str(folder),
            "perfci_bind_address": "192.0.2.1",
            "perfci_hosts": {name: f"{name}.example" for name in services},
            "openstack_code_result": {"venv": str(venv), "key": "k"},
            **{
                f"{name}_options": {"DEFAULT": {"debug": name}, "of_my_own": {"x": "1"}}
                for name in ("keystone", "placement", "glance", "nova", "neutron")
            },
            "neutron_api_filters": [
                {"name": "slow", "source": str(tmp_path / "slow.py"), "factory": "slow_filter:factory"}
            ],
        },
    )
    return folder


def ini(path):
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    parser.read_string(path.read_text())
    return parser


def test_nothing_is_left_unrendered(state):
    for path in (state / "etc").rglob("*"):
        if path.is_file():
            assert "{{" not in path.read_text(), path
            assert "{%" not in path.read_text(), path


def test_no_address_is_fixed_in_a_template(state):
    for path in [*(state / "etc").rglob("*"), state / "clouds.yaml", state / "openrc"]:
        if path.is_file():
            assert "127.0.0.1" not in path.read_text(), path


@pytest.mark.parametrize(
    ("file", "section", "option", "value"),
    [
        ("keystone/keystone.conf", "database", "connection", "@mariadb.example:17306/keystone?"),
        ("placement/placement.conf", "placement_database", "connection", "@mariadb.example:17306/placement?"),
        ("glance/glance-api.conf", "keystone_authtoken", "auth_url", "http://keystone.example:17500/v3"),
        ("nova/nova.conf", "api_database", "connection", "mysql+pymysql://nova:"),
        ("nova/nova.conf", "DEFAULT", "transport_url", "@rabbitmq.example:17672/"),
        ("nova/nova.conf", "DEFAULT", "compute_driver", "fake.FakeDriverWithoutFakeNodes"),
        ("neutron/neutron.conf", "quotas", "quota_port", "-1"),
        ("neutron/ml2_conf.ini", "ml2", "mechanism_drivers", "openvswitch"),
        ("mariadb/my.cnf", "mysqld", "bind-address", "192.0.2.1"),
        ("mariadb/my.cnf", "mysqld", "userstat", "1"),
    ],
)
def test_settings(state, file, section, option, value):
    assert value in ini(state / "etc" / file).get(section, option)


@pytest.mark.parametrize(
    ("file", "service"),
    [
        ("keystone/keystone.conf", "keystone"),
        ("placement/placement.conf", "placement"),
        ("glance/glance-api.conf", "glance"),
        ("nova/nova.conf", "nova"),
        ("neutron/neutron.conf", "neutron"),
    ],
)
def test_further_options_come_last_in_sections_known_and_new(state, file, service):
    settings = ini(state / "etc" / file)
    assert settings.get("DEFAULT", "debug") == service
    assert settings.get("of_my_own", "x") == "1"


def test_secrets_are_read_by_nobody_else(state):
    secrets = [path.read_text().strip() for path in (state / "secrets").iterdir()]
    holding = [
        path
        for path in state.rglob("*")
        if path.is_file() and any(secret in path.read_text(errors="replace") for secret in secrets)
    ]
    assert len(secrets) > 10
    assert len(holding) > len(secrets)
    assert [path for path in holding if path.stat().st_mode & 0o077] == []


def test_one_database_user_for_each_service(state):
    sql = (state / "etc" / "mariadb" / "init.sql").read_text()
    for user in ("keystone", "placement", "glance", "nova", "neutron", "perfci"):
        assert sql.count(f"CREATE USER IF NOT EXISTS '{user}'@'%'") == 1
    assert "GRANT ALL ON nova_cell0.* TO 'nova'@'%'" in sql


def test_the_filter_stands_in_front_of_neutron(state):
    paste = ini(state / "etc" / "neutron" / "api-paste.ini")
    assert paste.get("pipeline:neutron", "pipeline") == "slow neutron_itself"
    assert paste.get("filter:slow", "paste.filter_factory") == "slow_filter:factory"
    assert paste.has_section("composite:neutron_itself")
    assert not paste.has_section("composite:neutron")
    assert (state / "etc" / "neutron" / "filters" / "slow_filter.py").exists()


def test_the_filter_counts_as_a_change_of_the_code(state):
    record = yaml.safe_load((state.parent / "units.json").read_text())
    digest = hashlib.sha256((state.parent / "slow.py").read_bytes()).hexdigest()
    assert record["changes"] == [f"slow@{digest[:8]}"]


def test_the_services_have_the_names_that_counters_know(state):
    record = yaml.safe_load((state.parent / "units.json").read_text())
    assert [unit["name"] for unit in record["units"]] == [
        "mariadb",
        "rabbitmq",
        "memcached",
        "keystone",
        "placement",
        "glance",
        "nova-api",
        "nova-conductor",
        "nova-scheduler",
        "neutron-api",
        "neutron-rpc",
        "nova-compute",
        "fake-agents",
    ]


@pytest.mark.slow
@needs("systemd-analyze")
def test_systemd_accepts_the_units(state, tmp_path):
    record = yaml.safe_load((state.parent / "units.json").read_text())
    tasks = [
        {
            "name": "Render",
            "ansible.builtin.template": {
                "src": str(ROOT / "roles" / "service" / "templates" / "perfci.service.j2"),
                "dest": str(tmp_path) + "/perfci-{{ service_unit.name }}.service",
                "mode": "0600",
            },
            "loop": "{{ service_units }}",
            "loop_control": {"loop_var": "service_unit"},
        },
        only_variables("service"),
    ]
    units = [{**unit, "command": ["/bin/echo", *unit["command"][1:]]} for unit in record["units"]]
    play(tmp_path, tasks, {"service_units": units, "perfci_state_dir": str(state)})
    paths = sorted(str(path) for path in tmp_path.glob("*.service"))
    assert len(paths) == len(units)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    assert complaints == []
    nova = (tmp_path / "perfci-nova-api.service").read_text()
    assert 'Environment="PERFCI_SERVICE=nova-api"' in nova
    assert "api-paste.ini;nova.conf" in nova
