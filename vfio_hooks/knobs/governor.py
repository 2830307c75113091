"""The governor, which chooses the frequency of a CPU frequency policy."""

from __future__ import annotations

import re

from vfio_hooks.errors import HookError
from vfio_hooks.knobs.file import File, write_file
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfio_hooks.host import Host, WritableHost


@record
class Governor(File):
    """A scaling_governor file. The value is the governor's name, with its tunables if it has any:
    "ondemand (sampling_rate=4000, up_threshold=95)". A name alone leaves the tunables as they are.

    The kernel forgets a governor's tunables when the last policy leaves it.
    https://docs.kernel.org/admin-guide/pm/cpufreq.html
    """

    kind = "governor"
    # The governor is there a moment before its tunables are.
    atomic = False

    def read(self, host: Host) -> str:
        name = super().read(host)
        found = ((file, host.maybe(path)) for file, path in self._tunables(host, name))
        told = ", ".join(f"{file}={text}" for file, text in found if text)
        return f"{name} ({told})" if told else name

    def _write(self, host: WritableHost, value: str) -> None:
        before, name = _name(self.read(host)), _name(value)
        # If another policy kept the governor meanwhile, its tunables are not ours to change.
        kept = before != name and self._folder(host, name) is not None
        write_file(host, self.path, name)
        if not kept:
            self._tune(host, name, dict(re.findall(r"(\w+)=([^,)]*)", value)))

    def foresee(self, host: Host, value: str) -> dict[str, str | None]:
        return {self.path: _name(value)}

    def took(self, live: str, value: str, host: Host) -> bool:
        return _name(live) == _name(value)

    def same(self, live: str, value: str, host: Host) -> bool:
        return live == value or _name(live) == value

    def _tune(self, host: WritableHost, name: str, wanted: dict[str, str]) -> None:
        paths = dict(self._tunables(host, name))
        for last in (False, True):
            for file, text in wanted.items():
                if file not in paths or host.maybe(paths[file]) == text:
                    continue
                try:
                    write_file(host, paths[file], text)
                except HookError:
                    # The lower of two thresholds has to stay below the upper one.
                    if last:
                        raise

    def _tunables(self, host: Host, name: str) -> Iterator[tuple[str, str]]:
        if name == "userspace":
            file = "scaling_setspeed"
            yield file, f"{self.path.rpartition('/')[0]}/{file}"
        elif folder := self._folder(host, name):
            for file in host.names(folder):
                yield file, f"{folder}/{file}"

    def _folder(self, host: Host, name: str) -> str | None:
        """The folder of the tunables: of this policy alone, or of all policies with the governor;
        None if there is none."""
        own = self.path.rpartition("/")[0]
        folders = (f"{around}/{name}" for around in (own, own.rpartition("/")[0]))
        return next(filter(host.exists, folders), None)


def _name(value: str) -> str:
    return value.partition(" ")[0]
