"""Values that are one file of sysfs, procfs or cgroupfs."""

from __future__ import annotations

import errno

from vfio_hooks.errors import Asleep, Gone, HookError
from vfio_hooks.host import Host, WritableHost, refused
from vfio_hooks.host.cgroup import V1
from vfio_hooks.host.cpu import CPUS
from vfio_hooks.host.cpulist import format_list, format_mask, parse_list, parse_mask
from vfio_hooks.knobs.base import Knob
from vfio_hooks.knobs.cpu_set import CpuSetKnob
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_GONE = (errno.ENOENT, errno.ENODEV, errno.ENXIO)


def read_file(host: Host, path: str) -> str:
    """The text of a file. Raises Gone, Asleep if it belongs to an offline CPU, or HookError."""
    try:
        return host.read(path)
    except OSError as error:
        if error.errno in _GONE:
            raise Gone(f"{path}: no such file on this host") from None
        if error.errno == errno.EBUSY and path.startswith(f"{CPUS}/"):
            raise Asleep(
                f"{path}: its CPU is offline",
                "when the CPU is online, the next event of a VM with a vm.toml restores it, or "
                "vfio-hooks undo",
            ) from None
        raise refused("read", path, error) from None


def write_file(host: WritableHost, path: str, text: str) -> None:
    """Write a value's text. Raises Gone or HookError."""
    try:
        # Without the newline, an empty value would be no write at all.
        host.write(path, text or "\n")
    except OSError as error:
        if error.errno in _GONE:
            raise Gone(f"{path}: no such file on this host") from None
        raise refused(f"write {text!r}", path, error) from None


@record
class File(Knob):
    """A file whose text is the value, with single blanks for the kernel's tabs. If the file lists
    all choices, with the current one in brackets ("always [madvise] never"), the value is the one
    in brackets."""

    path: str
    kind = "file"

    @property
    def key(self) -> str:
        return self.path

    def read(self, host: Host) -> str:
        text = " ".join(read_file(host, self.path).split())
        before, opening, rest = text.partition("[")
        chosen, closing, after = rest.partition("]")
        in_brackets = opening and closing and (not before or before.endswith(" "))
        return chosen if in_brackets and after[:1] in ("", " ") else text

    def foresee(self, host: Host, value: str) -> dict[str, str | None]:
        return {self.path: value}

    def _write(self, host: WritableHost, value: str) -> None:
        write_file(host, self.path, value)

    @property
    def advice(self) -> str:
        # The values of subclasses are not given by the user.
        return "give the value as the kernel shows it" if type(self) is File else ""


@record
class CpuMask(CpuSetKnob):
    """A file that holds a CPU set, as a list or (`mask`) in hex; the value is a list."""

    path: str
    mask: bool = False
    kind = "cpus"

    @property
    def key(self) -> str:
        return self.path

    def read(self, host: Host) -> str:
        text = read_file(host, self.path)
        try:
            return format_list(parse_mask(text) if self.mask else parse_list(text))
        except ValueError as error:
            raise HookError(f"{self.path}: {error}") from None

    def resets(self, host: Host) -> Iterable[str]:
        # The group of a vCPU is made anew when the vCPU is unplugged and plugged in again.
        return ("",) if self.path.endswith("/cpuset.cpus.exclusive") else ()

    def foresee(self, host: Host, value: str) -> dict[str, str | None]:
        return {self.path: self._text(host, value)}

    def _write(self, host: WritableHost, value: str) -> None:
        write_file(host, self.path, self._text(host, value))

    def _text(self, host: Host, value: str) -> str:
        """The text that is written to the file for a value."""
        cpus = parse_list(value)
        if self.path.startswith(f"{V1}/"):
            # Such a set accepts no CPU that is offline.
            cpus &= parse_list(host.maybe(f"{V1}/cpuset.cpus") or value)
        return format_mask(cpus) if self.mask else format_list(cpus)
