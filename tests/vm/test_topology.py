"""`init`, `topology`, `iommu` and `snapshot` on the real kernel, with a real libvirtd."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import GPU, GPU_AUDIO, GPU_USB

FOLDER = "/etc/libvirt/hooks/qemu.d/placed"
ARCHIVE = "/tmp/host.tar.xz"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
VM = Domain(
    "placed",
    tuple(HostDevice(address) for address in (GPU, GPU_AUDIO, GPU_USB)),
    vcpus=2,
    extra_devices="<graphics type='vnc' passwd='quick'/>",
)


def changes(guest: Guest, options: str) -> dict[str, Any]:
    """What a start would change, and from what to what. Kernel threads come and go, nobody
    listens for a host in a file, and the VM has another UUID in there."""
    told = guest.run(f"vfio-hooks plan placed --json {options}").stdout
    return {
        change["key"]: (change["old"], change["new"])
        for event in json.loads(UUID.sub("UUID", told))["events"]
        for change in event["changes"]
        if not re.match(r"/proc/\d|.*irqbalance", change["key"])
    }


def test_from_init_to_a_running_vm_and_a_snapshot(hooked: Guest) -> None:
    hooked.define(VM)
    try:
        told = hooked.run("vfio-hooks init placed --pins --force")
        assert "2 vCPUs to CPUs" in told.stderr
        xml = hooked.virsh("dumpxml", "--security-info", "placed").stdout
        assert xml.count("<vcpupin ") == 2
        # What libvirt shows to nobody is not lost.
        assert "passwd='quick'" in xml

        live = changes(hooked, "")
        assert len(live) > 20
        hooked.run(f"vfio-hooks snapshot {ARCHIVE} --vm placed")
        captured = changes(hooked, f"--root {ARCHIVE} --config-dir /etc/libvirt/hooks")
        assert captured == live, sorted(set(captured.items()) ^ set(live.items()))
        assert "quick" not in hooked.run(f"tar -xOf {ARCHIVE} | grep -a quick", check=False).stdout

        hooked.start("placed")
        picture = hooked.run("vfio-hooks topology").stdout
        assert "placed, running: 2 vCPUs on CPUs " in picture
        assert "!" not in picture.partition("socket 0")[2]
        assert "A0   A1│" in picture
        groups = hooked.run("vfio-hooks iommu").stdout
        assert groups.count("VM placed") == 3
        assert "! " not in groups
    finally:
        hooked.remove("placed")
        hooked.run(f"rm -rf {FOLDER} {ARCHIVE} /var/lib/vfio-hooks")
