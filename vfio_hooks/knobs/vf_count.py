"""How many VFs a physical function has."""

from __future__ import annotations

from vfio_hooks.errors import HookError
from vfio_hooks.host.in_use import stuck_writer
from vfio_hooks.host.sriov import count_file, users
from vfio_hooks.host.udev import settle
from vfio_hooks.knobs.aside import write_aside
from vfio_hooks.knobs.base import Knob
from vfio_hooks.knobs.file import read_file
from vfio_hooks.knobs.vf_setting import VfSetting, all_settings
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host, WritableHost


@record
class VfCount(Knob):
    """The sriov_numvfs of a PF, "0000:08:00.0"; the value is a number.

    The kernel makes all VFs at once or none: between two numbers other than 0 it has to be 0, which
    removes every VF. So the number is not changed while any VF is in use, and VFs that stay get
    their settings again: a VLAN, for one, separates its guest from others. New VFs get the host's
    driver (unless sriov_drivers_autoprobe is 0), which udev may have to load first and whose
    network interfaces it renames. The write waits until that is done.
    Documentation/ABI/testing/sysfs-bus-pci.
    """

    pf: str
    seconds: float = 30
    kind = "vf-count"
    atomic = False

    @property
    def key(self) -> str:
        return count_file(self.pf)

    def read(self, host: Host) -> str:
        return read_file(host, self.key)

    def _write(self, host: WritableHost, value: str) -> None:
        before = self.read(host)
        self._check_free(host)
        kept = {} if "0" in (before, value) else all_settings(host, self.pf)
        if before != "0":
            self._set(host, "0")
        if value != "0":
            try:
                self._make(host, value, kept)
            except HookError:
                if before != "0" and self.read(host) == "0":
                    self._make(host, before, kept)
                raise

    def is_lent(self, live: str, base: str, value: str | None) -> bool:
        # A card that comes back has no VFs.
        return value is None and live == "0"

    def lends(self, value: str) -> str:
        return f"{value} (they go and come back together with the card)"

    def _make(self, host: WritableHost, value: str, kept: dict[VfSetting, str]) -> None:
        self._set(host, value)
        settle(host, self.seconds)
        lost = []
        new = all_settings(host, self.pf) if kept else {}
        for setting, text in kept.items():
            if new.get(setting, text) != text:
                try:
                    setting.write(host, text)
                except HookError as error:
                    lost.append(f"{setting.attribute} {text} of VF {setting.vf} ({error.problem})")
        if lost:
            raise HookError(
                f"{self.pf}: its VFs were made again, but without {'; '.join(lost)}",
                "set that again with ip link",
            )

    def _check_free(self, host: Host) -> None:
        pid = stuck_writer(host, self.pf)
        if pid is not None:
            raise HookError(
                f"{self.pf}: its VFs have not been removed yet (pid {pid} waits in the kernel)"
            )
        if in_use := list(users(host, self.pf)):
            raise HookError(
                f"{self.pf}: the number of its VFs cannot change while they are in use: "
                f"{'; '.join(in_use[:3])}",
                "shut that VM down, or take the interface out of use",
            )

    def _set(self, host: WritableHost, value: str) -> None:
        """Write in a child process: a driver that does not let a VF go would block us forever."""
        write_aside(host, self.pf, self.key, value, self.seconds, f"set {value} VFs")
