"""What the kernel and iproute2 do with an SR-IOV card's VFs, as seen with igb and iproute2 6.15."""

import errno
import json
from typing import Any, Protocol

from vfio_hooks.errors import HookError

DEVICES = "/sys/bus/pci/devices"
PF, NIC = "0000:08:00.0", "enp8s0"
NEW = {
    "address": "00:00:00:00:00:00",
    "vlan_list": [{}],
    "rate": {"max_tx": 0, "min_tx": 0},
    "spoofchk": True,
    "link_state": "auto",
    "trust": False,
}


class Machine(Protocol):
    """A kernel in memory."""

    files: dict[str, str]
    links: dict[str, str]

    def add_pci(
        self,
        address: str,
        driver: str | None,
        group: str = ...,
        device_class: str = ...,
        override: str = ...,
    ) -> None: ...


def add_card(kernel: Machine, count: int = 0) -> None:
    """Put a card of seven VFs into a kernel, with the routing IDs of Intel's 82576."""
    kernel.add_pci(PF, "igb", "10", "0x020000")
    folder = f"{DEVICES}/{PF}"
    for name, number in (("offset", 128), ("stride", 2), ("totalvfs", 7), ("numvfs", 0)):
        kernel.files[f"{folder}/sriov_{name}"] = f"{number}\n"
    kernel.files[f"{folder}/net/{NIC}/mtu"] = "1500\n"
    kernel.files["/sys/bus/pci/drivers/igbvf/uevent"] = "\n"
    kernel.links[f"/sys/class/net/{NIC}/device"] = PF
    if count:
        kernel.files[f"{folder}/sriov_numvfs"] = set_count(kernel, str(count)) + "\n"


def address(number: int) -> str:
    return f"0000:08:{0x10 + 2 * number // 8:02x}.{2 * number % 8}"


def set_count(kernel: Machine, text: str) -> str:
    """What sriov_numvfs shows after a write."""
    folder, wanted = f"{DEVICES}/{PF}", int(text)
    before = int(kernel.files[f"{folder}/sriov_numvfs"])
    if wanted == before:
        return text
    if before and wanted:
        raise OSError(errno.EBUSY, "Device or resource busy", folder)
    if wanted > 7:
        raise OSError(errno.ERANGE, "Numerical result out of range", folder)
    for number in range(wanted):
        kernel.add_pci(address(number), "igbvf", str(20 + number), "0x020000")
        kernel.links[f"{DEVICES}/{address(number)}/physfn"] = PF
        kernel.files[f"{DEVICES}/{address(number)}/net/{NIC}v{number}/mtu"] = "1500\n"
        kernel.links[f"{folder}/virtfn{number}"] = address(number)
        kernel.files[_state(number)] = json.dumps(NEW)
    for number in range(wanted, before):
        _remove(kernel, number)
    return text


def _remove(kernel: Machine, number: int) -> None:
    below = f"{DEVICES}/{address(number)}/"
    group = f"/sys/kernel/iommu_groups/{20 + number}/"
    for name in [name for name in kernel.files if name.startswith(below)]:
        del kernel.files[name]
    for name in [name for name in kernel.links if name.startswith((below, group))]:
        del kernel.links[name]
    del kernel.links[f"{DEVICES}/{PF}/virtfn{number}"]
    del kernel.files[_state(number)]


def ip(kernel: Machine, words: list[str]) -> str:
    """ip link show, ip link set."""
    match words:
        case ["-json", "-details", "link", "show", "dev", name]:
            _check(name)
            numbers = range(7)
            vfs = [_shown(kernel, n) for n in numbers if _state(n) in kernel.files]
            return json.dumps([{"ifname": name, "vfinfo_list": vfs}])
        case ["link", "set", "dev", name, "vf", number, *settings]:
            _check(name)
            if _state(int(number)) not in kernel.files:
                raise HookError("ip: exit code 2: RTNETLINK answers: Invalid argument")
            shown = _shown(kernel, int(number))
            _set(shown, settings)
            del shown["vf"]
            kernel.files[_state(int(number))] = json.dumps(shown)
    return ""


def _set(shown: dict[str, Any], settings: list[str]) -> None:
    match settings:
        case ["vlan", "0"]:
            shown["vlan_list"] = [{}]
        case ["vlan", vlan, *more]:
            words = dict(zip(more[::2], more[1::2], strict=True))
            one = {"vlan": int(vlan)}
            one |= {"qos": int(words["qos"])} if "qos" in words else {}
            shown["vlan_list"] = [
                one | ({"protocol": words["proto"]} if "proto" in words else {}),
            ]
        case ["mac", mac]:
            shown["address"] = mac
        case ["trust" | "spoofchk" as name, way]:
            shown[name] = way == "on"
        case ["state", way]:
            shown["link_state"] = way
        case ["max_tx_rate", most, "min_tx_rate", least]:
            shown["rate"] = {"max_tx": int(most), "min_tx": int(least)}
        case _:
            raise HookError(f'ip: exit code 255: Error: either "dev" is duplicate, or {settings}')


def _check(name: str) -> None:
    if name != NIC:
        raise HookError(f'ip: exit code 1: Device "{name}" does not exist.')


def _shown(kernel: Machine, number: int) -> dict[str, Any]:
    return {"vf": number, **json.loads(kernel.files[_state(number)])}


def _state(number: int) -> str:
    """Where the card keeps a VF's settings."""
    return f"/card/{PF}/{number}"
