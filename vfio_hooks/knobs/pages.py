"""Hugepages of one size on one NUMA node."""

from dataclasses import dataclass
from typing import ClassVar

from vfio_hooks.errors import HookError
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.knobs.base import Knob
from vfio_hooks.knobs.file import read_file, write_file


@dataclass(frozen=True)
class Pages(Knob):
    """A nr_hugepages file, of one node as a rule.

    The kernel takes any number and gives as many as it can find, so a write may be cut off at
    every number in between. https://docs.kernel.org/admin-guide/mm/hugetlbpage.html
    """

    path: str
    kind: ClassVar[str] = "pages"
    atomic: ClassVar[bool] = False

    @property
    def key(self) -> str:
        return self.path

    def read(self, host: Host) -> str:
        return read_file(host, self.path)

    def write(self, host: WritableHost, value: str) -> None:
        write_file(host, self.path, value)
        had = int(self.read(host))
        if had < int(value):
            raise HookError(f"{self.path}: {value} pages wanted, only {had} to be had")
