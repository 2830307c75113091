"""A program in a systemd unit of its own, which exists while the program runs."""

from __future__ import annotations

from vfio_hooks.errors import CommandFailed, Gone, HookError
from vfio_hooks.host import Host, WritableHost, units
from vfio_hooks.host.unit_syntax import no_variables
from vfio_hooks.knobs.base import Knob
from vfio_hooks.quoting import joined, quoted
from vfio_hooks.record import record
from vfio_hooks.wait import until

ABSENT = "not running"
_BY_SYSTEMD = 20
"""Seconds that systemd may need besides, on a host that is busy."""


@record
class Transient(Knob):
    """The service `unit` of systemd's system manager, made by systemd-run(1). The value is its
    command line while it runs. `properties` are "Name=value" as in systemd.service(5) and related
    pages, `environment` is "NAME=value". `seconds` is how long it may take to end, and, unless its
    type is exec, to be ready. `title` is shown to people in place of a command line that would not
    help them.

    A unit does not hold libvirt's pipes, is outside of libvirtd's AppArmor profile and cgroup, and
    its output goes to the systemd journal.
    """

    unit: str
    command: tuple[str, ...]
    properties: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    seconds: float = 10
    title: str = ""
    kind = "transient-unit"
    # A program may have done its work and ended by now.
    is_read_back = False

    @property
    def key(self) -> str:
        return self.unit

    @property
    def value(self) -> str:
        """What `read` shows while it runs."""
        return joined(self.command)

    def shows(self, value: str) -> str:
        return f"running ({self.title})" if self.title and value == self.value else value

    def read(self, host: Host) -> str:
        return self.value if self._exists(host) else ABSENT

    def _exists(self, host: Host) -> bool:
        try:
            return units.state(host, self.unit).active not in ("inactive", "failed")
        except Gone:
            return False

    def _write(self, host: WritableHost, value: str) -> None:
        if value == ABSENT:
            self._stop(host)
        else:
            self._start(host)

    def _start(self, host: WritableHost) -> None:
        # exec: when systemd-run returns, it is known whether the program could be run at all.
        properties = (f"TimeoutStopSec={self.seconds:g}", "Type=exec", *self.properties)
        options = [f"--property={each}" for each in properties]
        options += [f"--setenv={each}" for each in self.environment]
        argv = ["systemd-run", "--quiet", "--collect", f"--unit={self.unit}", *options, "--"]
        argv += map(no_variables, self.command)
        try:
            host.run(argv, self.seconds + _BY_SYSTEMD)
        except CommandFailed as error:
            # The whole command line would not help anybody.
            why = self._failure(error.why.rpartition(": ")[2])
            raise HookError(f"{self.unit}: {why}", f"journalctl -u {quoted(self.unit)}") from None

    def _failure(self, why: str) -> str:
        """Why it does not run, from the last line that systemd-run printed."""
        not_started = f"did not start ({self.title or self.command[0]})"
        if not why.startswith("See "):
            return f"{not_started}: {why}"
        # systemd's job failed, and systemd-run only says where to look. Unless the type is exec,
        # the program may have been run.
        is_exec = not any(each.startswith("Type=") for each in self.properties)
        return f"{self.command[0]} cannot be run" if is_exec else not_started

    def _stop(self, host: WritableHost) -> None:
        try:
            host.run(["systemctl", "stop", "--", self.unit], self.seconds + _BY_SYSTEMD)
        except HookError:
            # systemd no longer knows a unit that has ended by itself in the meantime.
            if self._exists(host):
                raise
        if not until(lambda: not self._exists(host), self.seconds):
            raise HookError(f"{self.unit}: was stopped but still runs")
