"""The fingerprint of a machine: what moves it, and what must not."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 106
model name\t: Intel(R) Xeon(R) Gold 5318Y
stepping\t: 6
microcode\t: 0xd0003d1
cpu MHz\t\t: {mhz}
flags\t\t: fpu sse2 avx2

processor\t: 1
"""
FILES = {
    "sys/class/dmi/id/sys_vendor": "Supermicro",
    "sys/class/dmi/id/product_name": "SYS-120C",
    "sys/class/dmi/id/product_serial": "S1234",
    "sys/class/dmi/id/product_uuid": "0000-1111",
    "sys/class/dmi/id/bios_version": "1.8a",
    "proc/cmdline": "BOOT_IMAGE=/vmlinuz-6.1 root=UUID=1f2e ro mitigations=off quiet",
    "proc/sys/kernel/osrelease": "6.1.0-40-amd64",
    "proc/sys/kernel/version": "#1 SMP Debian 6.1.153-1",
    "proc/cpuinfo": CPUINFO.format(mhz="2100.000"),
    "proc/meminfo": "MemTotal:       65536000 kB\n",
    "proc/swaps": "Filename Type Size Used Priority\n",
    "sys/devices/system/memory/block_size_bytes": "80000000",
    "sys/devices/system/memory/memory0/state": "online",
    "sys/devices/system/memory/memory1/state": "online",
    "sys/devices/system/cpu/online": "0-1",
    "sys/devices/system/cpu/cpu0/topology/physical_package_id": "0",
    "sys/devices/system/cpu/cpu0/topology/core_id": "0",
    "sys/devices/system/cpu/cpu1/topology/physical_package_id": "0",
    "sys/devices/system/cpu/cpu1/topology/core_id": "1",
    "sys/devices/system/cpu/cpu0/cache/index0/level": "1",
    "sys/devices/system/cpu/cpu0/cache/index0/type": "Data",
    "sys/devices/system/cpu/cpu0/cache/index0/size": "48K",
    "sys/devices/system/cpu/vulnerabilities/meltdown": "Not affected",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "performance",
    "sys/devices/system/cpu/cpufreq/policy1/scaling_governor": "performance",
    "sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]",
    "sys/class/net/eno1/device/vendor": "0x8086",
    "sys/class/net/eno1/device/device": "0x1592",
    "sys/class/net/eno1/address": "52:54:00:00:00:01",
    "sys/class/net/eno1/carrier": "1",
    "sys/class/net/eno1/speed": "25000",
    "sys/class/net/eno1/mtu": "1500",
    "sys/class/net/eno1/statistics/rx_bytes": "17",
    "sys/class/net/lo/mtu": "65536",
    "sys/block/sda/device/model": "SAMSUNG MZ7L3480",
    "sys/block/sda/device/rev": "404Q",
    "sys/block/sda/size": "937703088",
    "sys/block/sda/queue/scheduler": "none [mq-deadline]",
    "sys/block/sda/stat": "1 2 3",
    "sys/block/sdb/device/model": "INTEL SSDSC2KG96",
    "sys/block/sdb/size": "1875385008",
    "sys/block/sdb/queue/scheduler": "[none] mq-deadline",
    "sys/block/loop0/size": "8",
}


@pytest.fixture
def module(plugin, monkeypatch):
    loaded = plugin("node_fingerprint")
    monkeypatch.setattr(loaded, "virtualization", lambda: "none")
    return loaded


@pytest.fixture
def root(tmp_path):
    for name, content in FILES.items():
        put(tmp_path, name, content)
    return tmp_path


def put(root, name, content):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(f"{content}\n")


def taken(module, root):
    return module.fingerprint(root, root / "tuning.json")


def test_what_it_holds(module, root):
    found = taken(module, root)
    assert found["machine"] == {"vendor": "Supermicro", "product": "SYS-120C", "virtualization": "none"}
    assert found["firmware"] == {"version": "1.8a", "boot": "bios"}
    assert found["kernel"]["command_line"] == ["ro", "mitigations=off", "quiet"]
    assert found["cpu"]["microcode"] == "0xd0003d1"
    assert (found["cpu"]["sockets"], found["cpu"]["cores"]) == (1, 2)
    assert found["cpu"]["caches"] == ["L1 Data 48K"]
    assert found["memory"] == {"gibibytes": 4.0}
    assert found["network"]["eno1"]["speed_mbits"] == "25000"
    assert "lo" not in found["network"]
    assert [disk["model"] for disk in found["disks"]] == ["SAMSUNG MZ7L3480", "INTEL SSDSC2KG96"]
    assert found["settings"] == {
        "governor": "performance",
        "transparent_huge_pages": "never",
        "swap": "off",
    }
    assert found["tuning"] == {}


EVERYTHING = {
    "sys/class/dmi/id/product_version": "0123",
    "sys/class/dmi/id/board_vendor": "Supermicro",
    "sys/class/dmi/id/board_name": "X12SPL-F",
    "sys/class/dmi/id/board_version": "2.00",
    "sys/class/dmi/id/bios_vendor": "AMI",
    "sys/class/dmi/id/bios_date": "11/14/2023",
    "sys/class/dmi/id/bios_release": "5.22",
    "sys/class/dmi/id/ec_firmware_release": "1.1",
    "sys/firmware/efi/fw_platform_size": "64",
    "proc/cmdline": "BOOT_IMAGE=/v initrd=/i root=/dev/a resume=/dev/b BOOTIF=01-52 systemd.machine_id=17 ro",
    "proc/swaps": "Filename Type Size Used Priority\n/dev/sda3 partition 1 0 -2",
    "proc/sys/kernel/numa_balancing": "1",
    "sys/devices/system/cpu/isolated": "1",
    "sys/devices/system/node/node0/cpulist": "0-1",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_driver": "intel_pstate",
    "sys/devices/system/cpu/intel_pstate/no_turbo": "1",
    "sys/devices/system/cpu/cpufreq/boost": "0",
    "sys/devices/system/cpu/smt/control": "off",
    "sys/devices/system/cpu/cpuidle/current_driver": "intel_idle",
    "sys/devices/system/cpu/cpuidle/current_governor": "menu",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
    "sys/class/net/eno1/duplex": "full",
    "sys/block/sda/device/vendor": "ATA",
    "sys/block/sda/queue/rotational": "0",
    "sys/block/sda/queue/nr_requests": "64",
    "sys/block/sda/queue/read_ahead_kb": "128",
    "sys/block/sda/queue/write_cache": "write back",
}


def test_a_machine_that_tells_everything(module, root, monkeypatch):
    """Each name and each value: another word for the same would be another environment, and a new baseline."""
    for name, content in EVERYTHING.items():
        put(root, name, content)
    told = {
        "-i": [("driver", "ice"), ("version", "6.1.0-40"), ("firmware-version", "4.20"), ("bus-info", "")],
        "-k": [("rx-checksumming", "on"), ("rx-vlan-filter", "on [fixed]"), ("lro", "off"), ("empty", "")],
    }
    monkeypatch.setattr(module, "told", lambda _, option, interface: told[option] * (interface == "eno1"))
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    found = taken(module, root)
    assert found == {
        "machine": {
            "vendor": "Supermicro", "product": "SYS-120C", "version": "0123", "board_vendor": "Supermicro",
            "board": "X12SPL-F", "board_version": "2.00", "virtualization": "none",
        },
        "firmware": {
            "vendor": "AMI", "version": "1.8a", "date": "11/14/2023", "release": "5.22",
            "controller_release": "1.1", "boot": "uefi",
        },
        "kernel": {
            "release": "6.1.0-40-amd64", "build": "#1 SMP Debian 6.1.153-1", "command_line": ["ro"],
        },
        "cpu": {
            "architecture": "x86_64", "model": "Intel(R) Xeon(R) Gold 5318Y", "signature": "6-106-6",
            "microcode": "0xd0003d1", "flags": ["avx2", "fpu", "sse2"], "online": "0-1", "isolated": "1",
            "sockets": 1, "cores": 2, "caches": ["L1 Data 48K"], "numa_nodes": {"node0": "0-1"},
            "mitigations": {"meltdown": "Not affected"},
        },
        "memory": {"gibibytes": 4.0},
        "network": {
            "eno1": {
                "device": "0x8086:0x1592", "driver_version": "6.1.0-40", "firmware": "4.20", "mtu": "1500",
                "speed_mbits": "25000", "duplex": "full", "offloads": ["rx-checksumming", "rx-vlan-filter"],
            },
        },
        "disks": [
            {
                "maker": "ATA", "model": "SAMSUNG MZ7L3480", "firmware": "404Q", "bytes": 480103981056,
                "rotational": "0", "scheduler": "mq-deadline", "requests": "64",
                "read_ahead_kibibytes": "128", "write_cache": "write back",
            },
            {"model": "INTEL SSDSC2KG96", "bytes": 960197124096, "scheduler": "none"},
        ],
        "settings": {
            "frequency_driver": "intel_pstate", "governor": "performance", "no_turbo": "1", "boost": "0",
            "smt": "off", "idle_driver": "intel_idle", "idle_governor": "menu", "clock": "tsc",
            "transparent_huge_pages": "never", "numa_balancing": "1", "swap": "on",
        },
        "tuning": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sys/class/dmi/id/product_serial", "S9999"),
        ("sys/class/dmi/id/product_uuid", "2222-3333"),
        ("proc/cmdline", "BOOT_IMAGE=/vmlinuz-6.1 root=UUID=ffff ro mitigations=off quiet"),
        ("proc/cpuinfo", CPUINFO.format(mhz="800.041")),
        ("proc/meminfo", "MemTotal:       65535128 kB\n"),
        ("sys/class/net/eno1/address", "52:54:00:00:00:99"),
        ("sys/class/net/eno1/statistics/rx_bytes", "123456"),
        ("sys/block/sda/stat", "9 9 9"),
        ("sys/block/loop1/size", "16"),
    ],
)
def test_what_must_not_move_it(module, root, name, content):
    before = module.digest(taken(module, root))
    put(root, name, content)
    assert module.digest(taken(module, root)) == before


def test_cores_of_two_sockets_have_the_same_numbers(module, root):
    put(root, "sys/devices/system/cpu/cpu1/topology/physical_package_id", "1")
    put(root, "sys/devices/system/cpu/cpu1/topology/core_id", "0")
    found = taken(module, root)["cpu"]
    assert (found["sockets"], found["cores"]) == (2, 2)


def test_the_order_of_names_does_not_move_the_digest(module):
    assert module.digest({"a": 1, "b": {"c": 2, "d": 3}}) == module.digest({"b": {"d": 3, "c": 2}, "a": 1})


def test_disks_may_swap_their_names(module, root):
    before = module.digest(taken(module, root))
    folder = root / "sys" / "block"
    (folder / "sda").rename(folder / "swap")
    (folder / "sdb").rename(folder / "sda")
    (folder / "swap").rename(folder / "sdb")
    assert module.digest(taken(module, root)) == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sys/class/dmi/id/bios_version", "1.9"),
        ("proc/cmdline", "ro quiet"),
        ("proc/cpuinfo", CPUINFO.format(mhz="2100.000").replace("0xd0003d1", "0xd0003e7")),
        ("proc/sys/kernel/osrelease", "6.1.0-41-amd64"),
        ("sys/devices/system/memory/memory1/state", "offline"),
        ("sys/devices/system/cpu/cpufreq/policy1/scaling_governor", "powersave"),
        ("sys/class/net/eno1/speed", "10000"),
        ("sys/class/net/eno1/mtu", "9000"),
        ("sys/block/sda/device/rev", "405Q"),
        ("sys/block/sda/queue/scheduler", "[none] mq-deadline"),
        ("proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n"),
        ("tuning.json", '{"smt": {"state": "in effect", "value": "off"}}'),
    ],
)
def test_what_moves_it(module, root, name, content):
    before = module.digest(taken(module, root))
    put(root, name, content)
    assert module.digest(taken(module, root)) != before


def test_a_card_without_a_link_has_no_speed(module, root):
    put(root, "sys/class/net/eno1/carrier", "0")
    assert taken(module, root)["network"]["eno1"]["speed_mbits"] == "no link"


def test_the_tuning_counts_but_not_its_reasons(module, root):
    record = {
        "governor": {"state": "in effect", "value": "performance"},
        "irq_affinity": {
            "state": "not available",
            "why": "/proc/irq/17/smp_affinity_list: Read-only file system",
        },
    }
    put(root, "tuning.json", json.dumps(record))
    assert taken(module, root)["tuning"] == {
        "governor": "in effect: performance",
        "irq_affinity": "not available",
    }


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"governor": 3}', '{"governor": {}}'])
def test_garbage_is_no_tuning(module, root, content):
    put(root, "tuning.json", content)
    assert taken(module, root)["tuning"] == {}


def test_an_empty_machine_has_a_fingerprint_too(module, tmp_path):
    found = taken(module, tmp_path)
    assert found["network"] == {}
    assert found["disks"] == []


def test_this_machine_twice(plugin):
    module = plugin("node_fingerprint")
    first = module.fingerprint(module.Path("/"), module.Path("/none"))
    assert module.digest(first) == module.digest(module.fingerprint(module.Path("/"), module.Path("/none")))
    assert first["cpu"]["flags"] or first["cpu"]["architecture"] != "x86_64"


def device(size=16384, speed=3200, configured=2933, extended=0, length=0x28):
    area = bytearray(length)
    area[0:4] = struct.pack("<BBH", 17, length, 0x1000)
    struct.pack_into("<H", area, 0x0C, size)
    area[0x10], area[0x17], area[0x1A] = 1, 2, 3
    struct.pack_into("<H", area, 0x15, speed)
    if length >= 0x22:
        struct.pack_into("<L", area, 0x1C, extended)
        struct.pack_into("<H", area, 0x20, configured)
    return bytes(area) + b"DIMM_A1\0Samsung\0M393A2K40DB3 \0\0"


OTHER = struct.pack("<BBH", 1, 8, 1) + b"\0" * 4 + b"\0\0"
END = struct.pack("<BBH", 127, 4, 2) + b"\0\0"


def test_memory_modules_come_from_the_firmwares_table(smbios):
    table = OTHER + device() + device(size=0) + END + device()
    assert smbios.memory_modules(table) == [
        {
            "slot": "DIMM_A1",
            "mebibytes": 16384,
            "rated_mts": 3200,
            "configured_mts": 2933,
            "maker": "Samsung",
            "part": "M393A2K40DB3",
        }
    ]


@pytest.mark.parametrize(
    ("fields", "mebibytes"),
    [
        ({"size": 0x7FFF, "extended": 65536}, 65536),
        ({"size": 0x8000 | 2048}, 2),
        ({"length": 0x1B}, 16384),
    ],
)
def test_sizes_are_told_in_several_ways(smbios, fields, mebibytes):
    assert [one["mebibytes"] for one in smbios.memory_modules(device(**fields) + END)] == [mebibytes]


def test_an_unknown_size_is_no_module(smbios):
    assert smbios.memory_modules(device(size=0xFFFF) + END) == []


@given(st.binary(max_size=300), st.integers(0, 100))
def test_any_bytes_are_read_without_an_error(smbios, noise, at):
    table = OTHER + device() + END
    smbios.memory_modules(noise)
    smbios.memory_modules(table[:at] + noise + table[at:])
