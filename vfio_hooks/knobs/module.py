"""Kernel modules."""

from dataclasses import dataclass
from typing import ClassVar

from vfio_hooks.errors import HookError
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.knobs.base import Knob

LOADED, ABSENT = "loaded", "not loaded"


@dataclass(frozen=True)
class Module(Knob):
    """A kernel module, loaded with what it needs and with its options of modprobe.d."""

    name: str
    kind: ClassVar[str] = "module"

    @property
    def key(self) -> str:
        return f"/sys/module/{self.name.replace('-', '_')}"

    def read(self, host: Host) -> str:
        return LOADED if host.exists(self.key) else ABSENT

    def write(self, host: WritableHost, value: str) -> None:
        if value != LOADED:
            raise HookError(f"{self.name}: vfio-hooks does not unload kernel modules")
        host.run(["modprobe", "--", self.name])
