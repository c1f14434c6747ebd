import pytest


@pytest.fixture
def check(plugin):
    module = plugin("provision_inventory")

    def problems(*nodes, network="192.168.240.0/24", controller="192.168.240.1"):
        return module.problems(network, controller, list(nodes))

    return problems


def node(number=1, **changes):
    return {
        "name": f"node-{number}",
        "provision_mac": f"52:54:00:aa:bb:{number:02x}",
        "provision_address": f"192.168.240.{10 + number}",
        "provision_disk": "smallest",
        "provision_firmware": "bios",
        "bmc_address": f"192.0.2.{number}",
        "bmc_port": 623,
        **changes,
    }


def test_a_good_inventory_has_no_problems(check):
    assert check(node(1), node(2, provision_firmware="uefi", provision_disk="serial=A B,min_size=400G")) == []


def test_disks_are_told_by_what_udev_names_them_by(check):
    assert check(node(1, provision_disk="wwn=0x5000c500a1b2c3d4,rotational=1,model=ST4000NM0035")) == []


def test_a_mac_may_have_dashes_and_is_the_same_then(check):
    assert check(node(1, provision_mac="52-54-00-AA-BB-01")) == []
    (problem,) = check(node(1), node(2, provision_mac="52-54-00-aa-bb-01"))
    assert problem == "node-1 and node-2 have the same provision_mac 52:54:00:aa:bb:01"


def test_what_labs_have_is_accepted(check):
    """Names with a domain, MACs as other systems write them, BMCs by IPv6, links of udev."""
    good = node(
        1,
        name="node-1.rack3.lab.example.org",
        provision_mac="52-54-00-AA-BB-01",
        bmc_address="fd00::11",
        provision_disk="/dev/disk/by-path/pci-0000:00:17.0-ata-1",
        provision_console="ttyS1,57600n8",
    )
    other = node(
        2, provision_disk="/dev/disk/by-id/nvme-INTEL_SSDPE2KX010T8_PHLN_01", bmc_address="[fd00::12]"
    )
    assert check(good, other) == []


def test_two_nodes_must_not_have_one_name_in_two_domains(check):
    (problem,) = check(node(1, name="node-1.a.lab"), node(2, name="node-1.b.lab"))
    assert problem == "node-1.a.lab and node-1.b.lab have the same short name node-1"


def test_one_bmc_address_with_several_ports_is_fine(check):
    assert check(node(1, bmc_address="bmc"), node(2, bmc_address="bmc", bmc_port=624)) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"provision_mac": ""}, "node-1: provision_mac is not set"),
        ({"bmc_address": ""}, "node-1: bmc_address is not set"),
        # What YAML makes of a MAC without quotes, where all its digits are decimal.
        ({"provision_mac": 40930971753}, "node-1: provision_mac: quote it: without quotes it is read as"),
        ({"bmc_address": 10.1}, "node-1: bmc_address: quote it: without quotes it is read as a number"),
        ({"provision_mac": "52-54:00:aa:bb:01"}, "node-1: provision_mac: expected a MAC"),
        (
            {"provision_address": "192.168.241.11"},
            "node-1: provision_address: expected an address of 192.168.240.0/24",
        ),
        ({"provision_address": "192.168.240.0"}, "node-1: provision_address: expected"),
        ({"provision_address": "192.168.240.255"}, "node-1: provision_address: expected"),
        ({"provision_address": "node-1.lab"}, "node-1: provision_address: expected"),
        ({"provision_disk": "largest"}, "node-1: provision_disk: expected smallest"),
        ({"provision_disk": "smallest,,min_size=1G"}, "node-1: provision_disk: expected smallest"),
        ({"provision_disk": "/dev/disk/by-uuid/x"}, "node-1: provision_disk: expected smallest"),
        ({"provision_disk": "/dev/disk/by-id/"}, "node-1: provision_disk: expected smallest"),
        ({"provision_console": "ttyS1"}, "node-1: provision_console: expected a serial port with its speed"),
        ({"provision_console": "tty0,9600"}, "node-1: provision_console: expected a serial port"),
        ({"name": "node-1..lab"}, "node-1..lab: its name is no host name"),
        ({"name": "a" * 64}, f"{'a' * 64}: its name is no host name"),
        ({"provision_disk": "rotational=no"}, "node-1: provision_disk: expected smallest"),
        ({"provision_firmware": "efi"}, "node-1: provision_firmware: expected bios or uefi, got 'efi'"),
        ({"name": "Node_1"}, "Node_1: its name is no host name"),
    ],
)
def test_what_is_wrong_with_one_node(check, changes, told):
    (problem,) = check(node(1, **changes))
    assert problem.startswith(told)


def test_everything_is_told_at_once(check):
    found = check(node(1, provision_mac="", provision_disk="x"), node(2, provision_address="x"))
    assert len(found) == 3


@pytest.mark.parametrize("variable", ["provision_mac", "provision_address", "bmc_address"])
def test_two_nodes_must_not_share(check, variable):
    shared = node(1)[variable]
    (problem,) = check(node(1), node(2, **{variable: shared.upper()}))
    assert problem.startswith(f"node-1 and node-2 have the same {variable} {shared}")


def test_the_controller_keeps_its_address(check):
    (problem,) = check(node(1, provision_address="192.168.240.1"))
    assert problem == "the controller and node-1 have the same provision_address 192.168.240.1"


@pytest.mark.parametrize("network", ["192.168.240.7/24", "lab", "fd00::/64"])
def test_a_network_that_is_none(check, network):
    (problem,) = check(node(1), network=network)
    assert problem.startswith("provision_network: ")


def test_a_controller_outside(check):
    (problem,) = check(node(1), controller="10.0.0.1")
    assert problem == "provision_controller_address: '10.0.0.1' is no address of 192.168.240.0/24"


def test_no_nodes(check):
    assert check() == ["the group `nodes` is empty"]
