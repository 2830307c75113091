"""The installed hook, called as libvirt calls it, for VMs that need not run.

A domain that really starts costs ten seconds of emulated work; the hook alone costs one.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from tests.vm.domains import Domain
from tests.vm.guest import Guest
from tests.vm.process import VmError

HOOKS = "/etc/libvirt/hooks"
FOLDER = "/tmp/direct"


@dataclass(frozen=True)
class Direct:
    """A guest whose managed VMs exist for the hook only."""

    guest: Guest

    def manage(self, domain: Domain, toml: str) -> None:
        """Give a VM its folder."""
        self.guest.put(f"{HOOKS}/qemu.d/{domain.name}/vm.toml", toml)
        self.guest.put(f"{FOLDER}/{domain.name}.xml", domain.xml())

    def start(self, name: str) -> str:
        """What libvirt asks for before a VM starts; returns what the hook said in refusal."""
        line = self._line(name, "prepare begin")
        done = self.guest.run(line, check=False, timeout=300)
        if done.stdout or bool(done.returncode) != bool(done.stderr):
            raise VmError(f"{name}: exit {done.returncode}: {done.stdout!r} {done.stderr!r}")
        return done.stderr.strip()

    def stop(self, name: str) -> None:
        """What libvirt asks for after a VM has ended, or could not start."""
        events = ("stopped end", "release end")
        self.guest.run(" && ".join(self._line(name, event) for event in events))

    def cut_off(self, name: str, event: str, seconds: float) -> None:
        """An event whose hook is killed after a time, if it has not ended by then."""
        line = f"timeout --foreground --signal=KILL {seconds} {self._line(name, event)}"
        self.guest.run(line, check=False)

    def forget(self) -> None:
        """Stop and remove all VMs."""
        for path in self.guest.run(f"ls {FOLDER} 2>/dev/null", check=False).stdout.split():
            self.stop(path.removesuffix(".xml"))
        self.guest.run(f"rm -rf {FOLDER} {HOOKS}/qemu.d/*")

    def _line(self, name: str, event: str) -> str:
        return f"{HOOKS}/qemu {shlex.quote(name)} {event} - < {FOLDER}/{shlex.quote(name)}.xml"
