"""The CPUs that the processes of a systemd unit may use."""

from __future__ import annotations

from functools import partial

from vfio_hooks.errors import Gone, HookError
from vfio_hooks.host.cgroup import ROOT
from vfio_hooks.host.cpu import online, possible
from vfio_hooks.host.cpulist import format_list, parse_list
from vfio_hooks.knobs.cpu_set import CpuSetKnob
from vfio_hooks.knobs.tasks import give_offline_cpus
from vfio_hooks.record import record
from vfio_hooks.wait import until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host, WritableHost

SECONDS = 10
"""systemd applies a property after it has answered; on a busy host that may take seconds."""
_LASTING = "/etc/systemd/system.control"
_FOLDERS = ("/run/systemd/system.control", "/run/systemd/transient")
_FILE = "50-AllowedCPUs.conf"


@record
class AllowedCpus(CpuSetKnob):
    """AllowedCPUs of a top-level slice or scope, set for this boot only. The value is a CPU list
    "0-3,8", or "" if the unit has all CPUs, as it has unless somebody restricts it.

    It is read from the kernel and not from systemd, because the kernel's value is the one in force.
    systemd.resource-control(5), and "cpuset" in the kernel's cgroup-v2.html.
    """

    unit: str
    kind = "allowed-cpus"
    atomic = False
    # _check_effective checks instead which CPUs the unit's tasks can use.
    is_read_back = False
    # An undo that was cut off may have left an empty drop-in, which `read` does not show. And if
    # the hook was killed, its systemctl lives on, and may set the property only now.
    repeated = True

    @property
    def key(self) -> str:
        return f"{ROOT}/{self.unit}/cpuset.cpus"

    def read(self, host: Host) -> str:
        if not host.exists(f"{ROOT}/{self.unit}"):
            raise Gone(f"{self.unit}: this unit no longer exists")
        # The file only exists with the cpuset controller, which systemd enables when needed.
        cpus = parse_list(host.maybe(self.key) or "")
        if cpus and not cpus >= online(host):
            return format_list(cpus)
        # If systemd's file sets all CPUs, that is intended. If it sets fewer, they are on their
        # way.
        wished = any(map(partial(self._set_in, host), _FOLDERS))
        return format_list(cpus or possible(host)) if wished else ""

    def _write(self, host: WritableHost, value: str) -> None:
        if value:
            self._set(host, value)
        else:
            self._clear(host)
        self._check_effective(host, value)
        if value and value == self._set_in(host, _LASTING):
            # The lasting file sets the same, and the one for this boot, which is ours, is not
            # needed.
            self._remove_drop_ins(host)
            host.run(["systemctl", "daemon-reload"])

    def _set(self, host: WritableHost, value: str) -> None:
        host.run(
            ["systemctl", "set-property", "--runtime", "--", self.unit, f"AllowedCPUs={value}"]
        )
        if not until(lambda: self._shows(host, value), SECONDS):
            raise HookError(
                f"{self.unit}: AllowedCPUs={value} was set, but its cpuset.cpus is "
                f"{host.maybe(self.key) or 'not set'}",
                f"systemctl status {self.unit}; journalctl -b -u {self.unit}",
            )

    def _shows(self, host: Host, value: str) -> bool:
        """Whether the kernel has what systemd was asked for. A set that is cleared may keep all
        CPUs: kernels before 7 do not let a set with tasks be emptied (systemd issue 43846)."""
        cpus = parse_list(host.maybe(self.key) or "")
        return cpus == parse_list(value) or (not value and cpus >= online(host))

    def _clear(self, host: WritableHost) -> None:
        """Give the tasks all CPUs, and only then clear the property. When the last unit's property
        is cleared, systemd switches the cpuset controller off. The kernel then leaves every task
        the CPUs that it has, unless those of the first group, init.scope, change."""
        if host.exists(self.key):
            self._set(host, format_list(possible(host)))
        self._set(host, "")
        # systemd keeps a file that no longer sets anything.
        self._remove_drop_ins(host)
        give_offline_cpus(host)

    def _set_in(self, host: Host, folder: str) -> str:
        """What one of systemd's own files sets; "" if it does not exist or sets nothing."""
        text = host.maybe(f"{folder}/{self.unit}.d/{_FILE}") or ""
        return ",".join(text.rpartition("AllowedCPUs=")[2].split())

    def _remove_drop_ins(self, host: WritableHost) -> None:
        """Remove the files in which systemd keeps what was set for this boot."""
        for path in (f"{folder}/{self.unit}.d/{_FILE}" for folder in _FOLDERS):
            if host.exists(path):
                host.remove(path)

    def _check_effective(self, host: Host, value: str) -> None:
        shown = host.maybe(f"{ROOT}/{self.unit}/cpuset.cpus.effective")
        if shown is None:
            return
        now = parse_list(shown)
        everything = host.maybe(f"{ROOT}/cpuset.cpus.effective") or format_list(online(host))
        wanted = parse_list(value or everything)
        if not wanted & online(host):
            return  # If none of them is online, the kernel uses those of the group around it.
        if not now <= wanted or (not value and now != wanted):
            raise HookError(
                f"{self.unit}: CPUs {format_list(wanted)} were asked for, but its tasks can use "
                f"{format_list(now)}"
            )
