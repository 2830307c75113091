"""What a physical function's driver is told about one of its VFs, by iproute2."""

from __future__ import annotations

import json
import re
from contextlib import suppress

from vfio_hooks.errors import Gone, HookError
from vfio_hooks.host.pci import DEVICES, is_for_guests
from vfio_hooks.host.sriov import Vf, interface, vfs
from vfio_hooks.knobs.base import Knob
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from vfio_hooks.host import Host, WritableHost

VLAN, MAC, TRUST, SPOOFCHK, RATE, STATE = "vlan", "mac", "trust", "spoofchk", "rate", "state"


@record
class VfSetting(Knob):
    """One `attribute` of VF number `vf` of a PF, "0000:08:00.0": ip-link(8), "vf NUM".

    Values are as `ip` takes them: vlan "69", "69 qos 3", "69 qos 3 proto 802.1ad", "0" for none;
    mac; trust and spoofchk "on" or "off"; state "auto", "enable" or "disable". Those of rate, in
    Mbit/s, are one value, as each limits the other: "max 1000 min 0", with 0 for no limit.

    libvirt itself sets the VF of an <interface> before the VM starts, and restores it afterwards.
    With `lent`, this is the value between the two, and claims on it are separate from those on the
    value outside of that time.
    """

    pf: str
    vf: int
    attribute: str
    lent: bool = False
    kind = "vf-setting"

    @property
    def key(self) -> str:
        meantime = ", while lent" if self.lent else ""
        return f"{DEVICES}/{self.pf}/virtfn{self.vf} {self.attribute}{meantime}"

    def read(self, host: Host) -> str:
        shown = self._shown(host, self._interface(host))
        reader = _READERS[self.attribute]
        try:
            return reader(shown)
        except KeyError:
            driver = host.link(f"{DEVICES}/{self.pf}/driver")
            raise HookError(
                f"{Vf(self.pf, self.vf)}: its driver {driver} has no {self.attribute}",
                f"remove {self.attribute} from [[sriov]]",
            ) from None

    def _write(self, host: WritableHost, value: str) -> None:
        name = self._interface(host)
        if self.attribute == RATE:
            _, most, _, least = value.split()
            words = ["max_tx_rate", most, "min_tx_rate", least]
        else:
            words = [self.attribute, *value.split()]
        host.run(["ip", "link", "set", "dev", name, "vf", str(self.vf), *words])

    def is_lent(self, live: str, base: str, value: str | None) -> bool:
        # For VFs that were made again together with their card.
        return value is None

    def lends(self, value: str) -> str:
        return f"{value} (again when the card is back)"

    def is_back(self, host: Host, base: str) -> bool:
        address = vfs(host, self.pf).get(self.vf)
        driver = host.link(f"{DEVICES}/{address}/driver")
        return driver is not None and not is_for_guests(driver)

    def _interface(self, host: Host) -> str:
        name = interface(host, self.pf)
        if name is None:
            raise Gone(f"{self.pf}: it has no network interface on this host")
        return name

    def _shown(self, host: Host, name: str) -> dict[str, Any]:
        for shown in _all_shown(host, name):
            if shown["vf"] == self.vf:
                return shown
        raise Gone(f"{Vf(self.pf, self.vf)}: there is no such VF on this host")


def all_settings(host: Host, pf: str) -> dict[VfSetting, str]:
    """All settings of a PF's VFs that its driver shows; none if it is not a network card."""
    name = interface(host, pf)
    found = {}
    for shown in _all_shown(host, name) if name else ():
        for attribute, reader in _READERS.items():
            with suppress(KeyError):
                found[VfSetting(pf, shown["vf"], attribute)] = reader(shown)
    return found


def _all_shown(host: Host, name: str) -> list[dict[str, Any]]:
    (link,) = json.loads(host.show(["ip", "-json", "-details", "link", "show", "dev", name]))
    return list(link.get("vfinfo_list", []))


def vlan_text(vlan: int, qos: int = 0, proto: str = "802.1Q") -> str:
    """A VLAN, its priority and its protocol as the value of the attribute vlan."""
    more = f" qos {qos}" if qos else ""
    return f"{vlan}{more}" + (f" proto {proto}" if vlan and proto != "802.1Q" else "")


def rate_text(most: int, least: int) -> str:
    """Limits in Mbit/s as the value of the attribute rate."""
    return f"max {most} min {least}"


def rates(text: str) -> tuple[int, int]:
    """The highest and the lowest rate of the attribute's value."""
    most, least = re.findall(r"\d+", text)
    return int(most), int(least)


def _vlan(shown: dict[str, Any]) -> str:
    # Drivers before Linux 4.9 report one VLAN, not a list; a VF without a VLAN has an empty list.
    first: dict[str, Any] = next(iter(shown.get("vlan_list", [shown])), {})
    return vlan_text(first.get("vlan", 0), first.get("qos", 0), first.get("protocol", "802.1Q"))


_READERS: dict[str, Callable[[dict[str, Any]], str]] = {
    VLAN: _vlan,
    MAC: lambda shown: shown.get("address", shown.get("mac", "")),
    TRUST: lambda shown: "on" if shown["trust"] else "off",
    SPOOFCHK: lambda shown: "on" if shown["spoofchk"] else "off",
    STATE: lambda shown: shown["link_state"],
    RATE: lambda shown: rate_text(shown["rate"]["max_tx"], shown["rate"]["min_tx"]),
}
