"""What becomes of the VM when the host shuts down.

https://libvirt.org/manpages/libvirt-guests.html, and qemu.conf of libvirt 11.2 on, auto_shutdown_*
"""

import re
from collections.abc import Iterator

from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.domain.files import QEMU_CONF
from vfio_hooks.host import Host

_UNIT = "/etc/systemd/system/multi-user.target.wants/libvirt-guests.service"
_SCRIPTS = ("/usr/libexec/libvirt-guests.sh", "/usr/lib/libvirt/libvirt-guests.sh")
_SETTINGS = ("/etc/default/libvirt-guests", "/etc/sysconfig/libvirt-guests")


@rule(
    "shutdown-saves",
    "hook",
    "warning",
    why="A VM with passed devices cannot be saved: libvirt refuses. It is switched off when the "
    "host shuts down, and what its programs have not written is lost.",
    source="https://libvirt.org/manpages/libvirt-guests.html, ON_SHUTDOWN; qemu.conf, "
    "auto_shutdown_try_save",
    sure="likely",
)
def saves(patient: Patient) -> Iterator[Seen]:
    guest, host = patient.guest, patient.host
    if guest is None or not guest.domain.pci:
        return
    if host.exists(_UNIT) and (found := _on_shutdown(host)) and found[1] == "suspend":
        settings = next(filter(host.exists, _SETTINGS), found[0])
        yield Seen(
            "when the host shuts down, libvirt-guests tries to save the VM (ON_SHUTDOWN=suspend in "
            f"{found[0]}), which fails with passed devices",
            f"in {settings}: ON_SHUTDOWN=shutdown",
        )
    text = host.maybe(QEMU_CONF) or ""
    tries = {name: _value(text, f"auto_shutdown_try_{name}") for name in ("save", "shutdown")}
    if tries["save"] in ("persistent", "all") and tries["shutdown"] not in ("persistent", "all"):
        yield Seen(
            "when the host shuts down, libvirt tries to save the VM (auto_shutdown_try_save in "
            f"{QEMU_CONF}), which fails with passed devices, and tries nothing else",
            f'also set there: auto_shutdown_try_shutdown = "{tries["save"]}"',
        )


def _on_shutdown(host: Host) -> tuple[str, str] | None:
    """What libvirt-guests does, and the file that says so: the settings', else the script's."""
    for path in (*_SETTINGS, *_SCRIPTS):
        if value := _value(host.maybe(path) or "", "ON_SHUTDOWN"):
            return path, value
    return None


def _value(text: str, name: str) -> str | None:
    found = re.findall(rf"^\s*{name}\s*=\s*[\"']?(\w+)", text, re.MULTILINE)
    return found[-1] if found else None


RULES = (saves,)
