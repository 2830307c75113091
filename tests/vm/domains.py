"""The XML of small test domains, which start fast and then do nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from uuid import NAMESPACE_DNS, uuid5
from xml.sax.saxutils import escape

from vfio_hooks.rehearse.likeness.domain import FIRMWARE

ADDRESS = re.compile(r"([0-9a-f]{4}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")


@dataclass(frozen=True)
class HostDevice:
    """A PCI function of the host, given to the domain; `managed`: libvirt rebinds it."""

    address: str
    managed: bool = True

    def xml(self) -> str:
        """The <hostdev> element."""
        found = ADDRESS.fullmatch(self.address)
        if not found:
            raise ValueError(f"not a PCI address like 0000:04:00.0: {self.address!r}")
        domain, bus, slot, function = found.groups()
        managed = "yes" if self.managed else "no"
        return (
            f"<hostdev mode='subsystem' type='pci' managed='{managed}'><source>"
            f"<address domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/>"
            "</source></hostdev>"
        )


@dataclass(frozen=True)
class Domain:
    """A test domain. `hugepages` is the page size in KiB, or None; memory is in MiB; `firmware` is
    a file in the guest; `iommufd` is for its devices, from libvirt 12.2 on."""

    name: str
    devices: tuple[HostDevice, ...] = ()
    memory: int = 128
    vcpus: int = 1
    pins: dict[int, str] = field(default_factory=dict)
    emulator_pin: str = ""
    iothread_pins: dict[int, str] = field(default_factory=dict)
    nodes: str = ""
    hugepages: int | None = None
    metadata: str = ""
    extra_devices: str = ""
    # A few bytes that halt the CPU. A real one costs seconds of emulated work, and then waits for
    # a disk that is not there.
    firmware: str = FIRMWARE
    iommufd: bool = False

    @property
    def uuid(self) -> str:
        """Made from the name, so that a test can tell it beforehand."""
        return str(uuid5(NAMESPACE_DNS, f"{self.name}.vfio-hooks.test"))

    def _cputune(self) -> str:
        pins = [f"<vcpupin vcpu='{cpu}' cpuset='{to}'/>" for cpu, to in sorted(self.pins.items())]
        if self.emulator_pin:
            pins.append(f"<emulatorpin cpuset='{self.emulator_pin}'/>")
        for thread, to in sorted(self.iothread_pins.items()):
            pins.append(f"<iothreadpin iothread='{thread}' cpuset='{to}'/>")
        return f"<cputune>{''.join(pins)}</cputune>" if pins else ""

    def _memory(self) -> str:
        parts = [f"<memory unit='MiB'>{self.memory}</memory>"]
        if self.hugepages is not None:
            page = f"<page size='{self.hugepages}' unit='KiB'/>"
            parts.append(f"<memoryBacking><hugepages>{page}</hugepages></memoryBacking>")
        if self.nodes:
            parts.append(f"<numatune><memory mode='strict' nodeset='{self.nodes}'/></numatune>")
        return "".join(parts)

    def xml(self) -> str:
        """What `virsh define` takes."""
        threads = f"<iothreads>{len(self.iothread_pins)}</iothreads>" if self.iothread_pins else ""
        devices = "".join(device.xml() for device in self.devices)
        return f"""<domain type='qemu'>
  <name>{escape(self.name)}</name>
  <uuid>{self.uuid}</uuid>
  {f"<metadata>{self.metadata}</metadata>" if self.metadata else ""}
  {"<iommufd enabled='yes'/>" if self.iommufd else ""}
  {self._memory()}
  <vcpu placement='static'>{self.vcpus}</vcpu>
  {threads}{self._cputune()}
  <os><type arch='x86_64' machine='q35'>hvm</type>
    <loader readonly='yes' type='rom'>{self.firmware}</loader></os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact' check='none'><model fallback='allow'>qemu64</model></cpu>
  <on_poweroff>destroy</on_poweroff><on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    {devices}{self.extra_devices}
  </devices>
</domain>
"""
