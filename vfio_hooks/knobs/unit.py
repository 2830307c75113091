"""Whether a systemd unit runs."""

from __future__ import annotations

from vfio_hooks.errors import HookError, Immovable
from vfio_hooks.host import Host, WritableHost, units
from vfio_hooks.knobs.base import Knob
from vfio_hooks.record import record
from vfio_hooks.wait import until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host.units import UnitState

ACTIVE, INACTIVE = "active", "inactive"


@record
class Unit(Knob):
    """A unit, "gdm.service", as "active" or "inactive"; one that failed is inactive.

    A unit on its way up or down is waited for. `seconds` is for that and for each start or stop:
    systemd kills what does not stop after 90 s, unless the unit says otherwise.
    """

    name: str
    seconds: float = 100
    kind = "unit"

    @property
    def key(self) -> str:
        return f"unit {self.name}"

    def read(self, host: Host) -> str:
        now = units.state(host, self.name)

        def settled() -> bool:
            nonlocal now
            now = units.state(host, self.name)
            return now.is_settled

        if not now.is_settled:
            until(settled, self.seconds)
        # If it takes longer, its goal counts: systemd finishes what it has begun before it does
        # what it is asked for next.
        self._check(now)
        return ACTIVE if now.runs else INACTIVE

    def _write(self, host: WritableHost, value: str) -> None:
        if value == ACTIVE:
            if units.is_shutting_down(host):
                raise Immovable(f"{self.name}: the host is shutting down, so it stays stopped")
            if units.state(host, self.name).active == "failed":
                # Otherwise a unit that was started too often lately, as by many VMs, stays down.
                host.run(["systemctl", "reset-failed", "--", self.name])
        verb = "start" if value == ACTIVE else "stop"
        try:
            host.run(["systemctl", verb, "--", self.name], self.seconds)
        except HookError as error:
            raise HookError(error.problem, self.advice) from None

    @property
    def advice(self) -> str:
        return f"systemctl status {self.name}; journalctl -b -u {self.name}"

    def _check(self, now: UnitState) -> None:
        if now.load == "masked":
            raise HookError(f"{self.name} is masked", f"systemctl unmask {self.name}")
        if now.load in ("error", "bad-setting"):
            raise HookError(f"{self.name}: systemd cannot load it", self.advice)
