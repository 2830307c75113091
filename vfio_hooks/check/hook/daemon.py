"""libvirt's daemon: which one runs hooks, and has it seen ours; what confines it and its guests."""

import os
import re
import time
from collections.abc import Iterator

from vfio_hooks.check.hook import hook, is_executable, library, shows_hooks
from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.commands import find
from vfio_hooks.commands.by_sh import run
from vfio_hooks.domain import apparmor
from vfio_hooks.domain.files import LOCAL_PROFILE

DAEMONS = {"virtqemud": "virtqemud-sock", "libvirtd": "libvirt-sock"}
"""The daemons that run QEMU and its hooks, the modular one first, and their sockets."""
_FLATPAK = ".var/app/org.virt_manager.virt-manager/config/libvirt/qemu"
"""Where virt-manager's flatpak keeps VMs, in a home: its libvirt's socket is seen only inside."""
_TO_SYSTEM = (
    "a VM with passed-through devices belongs in qemu:///system: in virt-manager, File, Add "
    "Connection, QEMU/KVM; with virsh: --connect qemu:///system"
)
_CPUMAP = "/sys/devices/system/node/node{}/cpumap"


@rule(
    "libvirt-not-running",
    "hook",
    "warning",
    why="The daemon that starts VMs and runs their hook is not listening.",
    source="https://libvirt.org/daemons.html",
)
def not_running(patient: Patient) -> Iterator[Seen]:
    host = patient.host
    there = host.exists("/etc/libvirt") and host.exists("/run/systemd/system")
    if there and shows_hooks(patient) and not _daemon(patient):
        yield Seen(
            "neither virtqemud nor libvirtd has a socket in /run/libvirt",
            "systemctl enable --now libvirtd.socket (or virtqemud.socket, if that is installed)",
        )


@rule(
    "hook-not-seen",
    "hook",
    "warning",
    why="A daemon that found no hook when it started does not look again until it is reloaded.",
    source="https://libvirt.org/hooks.html; virhook.c of libvirt",
    sure="likely",
)
def not_seen(patient: Patient) -> Iterator[Seen]:
    name = _daemon(patient)
    if not patient.host.is_this_machine or not name or not is_executable(hook(patient)):
        return
    if not find("systemctl"):
        return
    since = _looked(run(["systemctl", "show", f"--property={_PROPERTIES}", f"{name}.service"], 10))
    first = min(_evidence(patient))
    if since is not None and first > since + 1:
        yield Seen(
            f"{name} last looked for hooks before there was one, which was installed "
            f"{(first - since) / 60:.0f} minutes later",
            f"systemctl reload {name}.service",
        )


_PROPERTIES = "ActiveState,StateChangeTimestampMonotonic"


def _looked(shown: str) -> float | None:
    """When a daemon last started or was reloaded, in seconds since the epoch; None if it is not
    running. systemd counts both as a change of state."""
    values = dict(re.findall(r"^(\w+)=(.*)$", shown, re.MULTILINE))
    if values.get("ActiveState") != "active":
        return None
    age = time.monotonic() - int(values["StateChangeTimestampMonotonic"]) / 1_000_000
    return time.time() - age


def _evidence(patient: Patient) -> Iterator[float]:
    """Times at which there certainly was a hook, in seconds since the epoch. An upgrade replaces
    the hook's file, but keeps the previous version and an earlier hook that was put aside."""
    paths = [f"{hook(patient)}{end}" for end in ("", ".kept", ".replaced")]
    if versions := _versions(patient):
        names = patient.host.names(versions)
        paths += [patient.host.path(f"{versions}/{name}") for name in names]
    yield from (os.stat(path).st_mtime for path in paths if os.path.exists(path))


@rule(
    "apparmor-numa-hugepages",
    "hook",
    "error",
    why="If hugepages are bound to a node, QEMU reads which CPUs the node has. libvirt's "
    "AppArmor profile for guests does not allow that, so the VM does not start.",
    source="AppArmor's abstraction libvirt-qemu; seen with libvirt 9.0 and QEMU 7.2 of Debian 12",
    sure="likely",
)
def cpumap(patient: Patient) -> Iterator[Seen]:
    host, guest = patient.host, patient.guest
    if guest is None or guest.domain.hugepages is None or guest.domain.numa_mode != "strict":
        return
    rules = apparmor.rules(host)
    if rules is not None and not apparmor.allow(rules, _CPUMAP.format(0), "r"):
        yield Seen(
            "the domain has hugepages and <numatune> with mode='strict', but AppArmor does not "
            "let QEMU read the nodes' cpumap",
            f"echo '  {apparmor.rule(_CPUMAP.format('*'), 'r')}' >> {LOCAL_PROFILE}",
        )


@rule(
    "selinux-enforcing",
    "hook",
    "warning",
    why="SELinux's policy has no rule that lets virtqemud run hooks. They work only if the "
    "domain virtqemud_t is permissive.",
    source="virt.te of Fedora's selinux-policy",
    sure="possible",
)
def selinux(patient: Patient) -> Iterator[Seen]:
    host = patient.host
    if host.maybe("/sys/fs/selinux/enforce") == "1" and _daemon(patient) == "virtqemud":
        folders = " ".join(filter(None, (patient.paths.config, _versions(patient))))
        yield Seen(
            "SELinux is enforcing, and virtqemud runs the hooks",
            f"restorecon -R {folders}; check with ausearch -m avc -c virtqemud; if it is refused: "
            "semanage permissive -a virtqemud_t",
        )


def _versions(patient: Patient) -> str:
    """The folder that has a folder for each version of the package; "" without our hook."""
    return os.path.dirname(library(patient) or "")


@rule(
    "libvirt-of-user",
    "hook",
    "hint",
    why="A user's own libvirt has no right to a device of the host, and its hooks change nothing: "
    "only VMs of qemu:///system can have devices passed through. virt-manager as a flatpak uses "
    "the user's own one by default.",
    source="https://libvirt.org/drvqemu.html, Security; vfio-hooks(1)",
)
def of_user(patient: Patient) -> Iterator[Seen]:
    for user in patient.host.names("/run/user"):
        folder = f"/run/user/{user}/libvirt"
        if any(patient.host.exists(f"{folder}/{socket}") for socket in DAEMONS.values()):
            yield Seen(f"user {user} has a libvirt of their own, qemu:///session", _TO_SYSTEM)
    for user in patient.host.names("/home"):
        names = patient.host.names(f"/home/{user}/{_FLATPAK}")
        if vms := [name.removesuffix(".xml") for name in names if name.endswith(".xml")]:
            told = f"user {user} has VMs in virt-manager's flatpak, qemu:///session: "
            yield Seen(told + ", ".join(vms), _TO_SYSTEM)


def _daemon(patient: Patient) -> str | None:
    """The daemon whose socket is there."""
    for name, socket in DAEMONS.items():
        if patient.host.exists(f"/run/libvirt/{socket}"):
            return name
    return None


RULES = (not_running, not_seen, cpumap, selinux, of_user)
