"""The CPUs that the processes of a systemd unit may use."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from vfio_hooks.errors import Gone, HookError
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.host.cgroup import ROOT
from vfio_hooks.host.cpu import online, possible
from vfio_hooks.host.cpulist import format_list, parse_list
from vfio_hooks.knobs.base import Knob
from vfio_hooks.knobs.file import write_file
from vfio_hooks.wait import until

SECONDS = 10
"""systemd applies a property after it has answered; on a busy host that may take seconds."""
_LASTING = "/etc/systemd/system.control"
_FOLDERS = ("/run/systemd/system.control", "/run/systemd/transient")
_FILE = "50-AllowedCPUs.conf"


@dataclass(frozen=True)
class AllowedCpus(Knob):
    """AllowedCPUs of a top-level slice or scope, set for this boot only; the value is a CPU
    list, and "" where the unit has all CPUs, as it has unless somebody restricts it.

    What the kernel has is read rather than what systemd would tell, as it is what counts.
    systemd.resource-control(5), and "cpuset" in the kernel's cgroup-v2.html.
    """

    unit: str
    kind: ClassVar[str] = "allowed-cpus"
    # Between systemd's part of the undo and ours the set is still there.
    atomic: ClassVar[bool] = False

    @property
    def key(self) -> str:
        return f"{ROOT}/{self.unit}/cpuset.cpus"

    def read(self, host: Host) -> str:
        if not host.exists(f"{ROOT}/{self.unit}"):
            raise Gone(f"{self.unit}: there is no such unit any more")
        # Without the cpuset controller, which systemd switches on when it is needed, no file.
        cpus = parse_list(host.maybe(self.key) or "")
        everything = online(host)
        if cpus and not cpus >= everything:
            return format_list(cpus)
        # A drop-in that allows all is somebody's wish, or left by an undo that was cut off.
        return format_list(everything) if any(self._drop_ins(host)) else ""

    def write(self, host: WritableHost, value: str) -> None:
        argv = ["systemctl", "set-property", "--runtime", "--", self.unit, f"AllowedCPUs={value}"]
        host.run(argv)
        if not value:
            self._clear(host)
        if not until(lambda: self.read(host) == value, SECONDS):
            raise HookError(
                f"{self.unit}: AllowedCPUs={value} was set, but its cpuset.cpus is "
                f"{self.read(host)!r}",
                f"systemctl status {self.unit}; journalctl -b -u {self.unit}",
            )
        self._check_effective(host, value)
        if value and value == self._lasting(host):
            # That file says it already, and goes before one for this boot, which is ours then.
            self._remove_drop_ins(host)
            host.run(["systemctl", "daemon-reload"])

    def _clear(self, host: WritableHost) -> None:
        """Do what systemd does not: it forgets a cleared property and leaves the kernel's set as
        it was, since the kernel lets no set with tasks in it be emptied (systemd issue 43846).
        And it keeps a file that says nothing any more."""
        try:
            write_file(host, self.key, format_list(possible(host)))
        except Gone:
            pass  # Nobody needs the controller any more, and systemd has switched it off.
        self._remove_drop_ins(host)

    def _lasting(self, host: Host) -> str:
        """What was set for longer than this boot, "" where nothing was."""
        text = host.maybe(f"{_LASTING}/{self.unit}.d/{_FILE}") or ""
        return ",".join(text.rpartition("AllowedCPUs=")[2].split())

    def _remove_drop_ins(self, host: WritableHost) -> None:
        for path in list(self._drop_ins(host)):
            host.remove(path)

    def _drop_ins(self, host: Host) -> Iterator[str]:
        """The files in which systemd keeps what was set for this boot."""
        paths = (f"{folder}/{self.unit}.d/{_FILE}" for folder in _FOLDERS)
        return filter(host.exists, paths)

    def _check_effective(self, host: Host, value: str) -> None:
        shown = host.maybe(f"{ROOT}/{self.unit}/cpuset.cpus.effective")
        if shown is None:
            return
        now = parse_list(shown)
        everything = host.maybe(f"{ROOT}/cpuset.cpus.effective") or format_list(online(host))
        wanted = parse_list(value or everything)
        if not now <= wanted or (not value and now != wanted):
            raise HookError(
                f"{self.unit}: CPUs {format_list(wanted)} were asked for, but its tasks may "
                f"use {format_list(now)}"
            )
