"""The guide's host as a folder: a Threadripper of two NUMA nodes, three graphics cards, SR-IOV.

The addresses, drivers and names are the guide's; where it is silent, they are what a host of 32
CPUs with such cards has.
"""

import json
import pwd
from getpass import getuser
from pathlib import Path

from tests.fakes.display_server import Monitor, Server
from tests.fakes.logind import add_session
from tests.hosttree import add_pci
from vfio_hooks.host import Host

USER = getuser()
"""Whoever looks at the screen has to be a user of the machine that the test runs on."""
NODES = ([*range(8), *range(16, 24)], [*range(8, 16), *range(24, 32)])
GPU = ("0000:45:00.0", "0000:45:00.1", "0000:45:00.2", "0000:45:00.3")
PF, VFS = "0000:07:00.1", ("0000:07:10.1", "0000:07:10.3")
DEVICES = (
    # address, driver, IOMMU group, class, ids
    ("0000:09:00.0", "amdgpu", "20", "0x030000", "1002:699f"),  # RX 550, the boot display
    ("0000:0a:00.0", "amdgpu", "21", "0x030000", "1002:67df"),  # RX 480
    (GPU[0], "amdgpu", "40", "0x030000", "1002:73bf"),  # RX 6900 XT
    (GPU[1], "snd_hda_intel", "41", "0x040300", "1002:ab28"),
    (GPU[2], "xhci_hcd", "42", "0x0c0330", "1002:73a6"),
    (GPU[3], "i2c-designware-pci", "43", "0x0c8000", "1002:73a4"),
    ("0000:0b:00.3", "xhci_hcd", "22", "0x0c0330", "1022:145c"),
    ("0000:42:00.0", "nvme", "30", "0x010802", "10ec:5765"),
    ("0000:07:00.0", "ixgbe", "23", "0x020000", "8086:154d"),
    (PF, "ixgbe", "24", "0x020000", "8086:154d"),
    (VFS[0], "ixgbevf", "25", "0x020000", "8086:10ed"),
    (VFS[1], "ixgbevf", "26", "0x020000", "8086:10ed"),
)


FULL_HD = [(1920, 1080, 60.0)]
CARDS = ("RX 550 @ pci:0000:09:00.0", f"RX 6900 XT @ pci:{GPU[0]}", "RX 480 @ pci:0000:0a:00.0")


class GuideHost(Host):
    """The files of the host below a folder, with what its programs print when they are asked."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(guide_host(root)))
        self._screen = Server.of(
            Monitor("HDMI-A-0", FULL_HD, 0),
            Monitor("DisplayPort-2-3", FULL_HD, 0, 1920, primary=True, crtc=1),
            providers=CARDS,
        )

    @property
    def is_this_machine(self) -> bool:
        return True

    def show(self, argv: list[str], seconds: float = 30) -> str:
        if "xrandr" in argv:
            return self._screen.told(argv)
        if argv[0] == "systemctl":
            return "LoadState=not-found\n"
        assert argv[0] == "ip" and argv[-1] == "enp7s0f1", argv
        vlans = [{"vf": number, "vlan_list": [{"vlan": 0}]} for number in range(len(VFS))]
        return json.dumps([{"ifname": "enp7s0f1", "vfinfo_list": vlans}])


def guide_host(root: Path) -> Path:
    """Put the whole host below a folder."""
    for address, driver, group, device_class, ids in DEVICES:
        add_pci(root, address, driver, group, device_class, ids)
    (root / "sys/bus/pci/drivers/vfio-pci").mkdir()
    _monitors(root)
    _sriov(root)
    _processors(root)
    _memory(root)
    _interrupts(root)
    _programs(root)
    return root


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def _monitors(root: Path) -> None:
    """The card of the VM has the fourth of its outputs in use."""
    folder = f"sys/bus/pci/devices/{GPU[0]}/drm/card1/card1-DP-"
    for number in range(1, 5):
        status = "connected" if number == 4 else "disconnected"
        _write(root, {f"{folder}{number}/status": status, f"{folder}{number}/edid": ""})


def _sriov(root: Path) -> None:
    pci = root / "sys/bus/pci/devices"
    _write(root, {f"sys/bus/pci/devices/{PF}/sriov_{name}": "2" for name in ("numvfs", "totalvfs")})
    for number, vf in enumerate(VFS):
        (pci / PF / f"virtfn{number}").symlink_to(f"../{vf}")
        (pci / vf / "physfn").symlink_to(f"../{PF}")
    for address, name in (("0000:07:00.0", "enp7s0f0"), (PF, "enp7s0f1")):
        (pci / address / "net" / name).mkdir(parents=True)
        links = root / "sys/class/net"
        links.mkdir(parents=True, exist_ok=True)
        (links / name).symlink_to(f"../../bus/pci/devices/{address}/net/{name}")
        (pci / address / "net" / name / "device").symlink_to(f"../../../{address}")


def _processors(root: Path) -> None:
    top = "sys/devices/system"
    _write(root, {f"{top}/cpu/{name}": "0-31" for name in ("online", "possible", "present")})
    for node, cpus in enumerate(NODES):
        mask = sum(1 << cpu for cpu in cpus)
        _write(
            root,
            {
                f"{top}/node/node{node}/cpumap": f"{mask:08x}",
                f"{top}/node/node{node}/cpulist": ",".join(map(str, cpus)),
                f"{top}/node/node{node}/distance": ("10 16", "16 10")[node],
            },
        )
    for cpu in range(32):
        _write(
            root,
            {
                f"{top}/cpu/cpu{cpu}/topology/thread_siblings_list": f"{cpu % 16},{cpu % 16 + 16}",
                **{
                    f"{top}/cpu/cpufreq/policy{cpu}/{name}": text
                    for name, text in {
                        "related_cpus": f"{cpu}",
                        "affected_cpus": f"{cpu}",
                        "scaling_driver": "acpi-cpufreq",
                        "scaling_governor": "ondemand",
                        "scaling_available_governors": "ondemand performance schedutil",
                        "scaling_available_frequencies": "4000000 2800000 2200000",
                        "cpuinfo_min_freq": "2200000",
                        "cpuinfo_max_freq": "4000000",
                        "scaling_min_freq": "2200000",
                        "scaling_max_freq": "4000000",
                    }.items()
                },
            },
        )


def _memory(root: Path) -> None:
    pool = "hugepages-2048kB"
    _write(root, {"proc/meminfo": "MemTotal: 32768000 kB\nHugepagesize:    2048 kB"})
    for place in (
        "sys/kernel/mm/hugepages",
        "sys/devices/system/node/node0/hugepages",
        "sys/devices/system/node/node1/hugepages",
    ):
        names = ("nr_hugepages", "free_hugepages", "surplus_hugepages")
        _write(root, {f"{place}/{pool}/{name}": "0" for name in names})
    for node in range(2):
        text = f"Node {node} MemTotal: 16384000 kB\nNode {node} MemFree: 15000000 kB"
        _write(root, {f"sys/devices/system/node/node{node}/meminfo": text})


def _interrupts(root: Path) -> None:
    _write(root, {"proc/irq/default_smp_affinity": "ffffffff"})
    for number in range(30, 40):
        _write(root, {f"proc/irq/{number}/smp_affinity_list": "0-31"})


def _programs(root: Path) -> None:
    uid = pwd.getpwnam(USER).pw_uid
    _write(
        root,
        {
            "etc/passwd": f"{USER}:x:{uid}:{uid}::/home/{USER}:/bin/bash",
            "etc/group": f"wheel:x:10:{USER}",
            "usr/bin/barrier": "#!/bin/sh",
            "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids",
            "run/systemd/system/placeholder": "",
            "run/systemd/seats/seat0": "IS_SEAT0=1",
            **{
                f"sys/fs/cgroup/{unit}/cgroup.procs": "1"
                for unit in ("init.scope", "system.slice", "user.slice")
            },
        },
    )
    (root / "usr/bin/barrier").chmod(0o755)
    add_session(root, "2", USER, str(uid), DISPLAY=":0")
