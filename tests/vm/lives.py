"""What may happen to VMs in the course of their lives, at random."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from tests.vm.guest import Guest
from tests.vm.hardware import NVME
from vfio_hooks.rehearse.compared import difference

# A killer waits for what it kills for so long; what it waits for may never come.
PATIENCE = 30  # s
# The brackets keep the shell that looks from being found.
HOOK = "pgrep -f '[h]ooks/qemu {} '"
QEMU = "cat /run/libvirt/qemu/{}.pid 2> /dev/null"
DAEMON = "pgrep -x libvirtd"


@dataclass
class Lives:
    """VMs that libvirt knows, and something random to happen to them."""

    guest: Guest
    random: Random
    names: tuple[str, ...]
    interrupted: bool = False
    """Whether a hook or the daemon was killed: then there may be something for `undo`."""
    plugged: str = ""
    """The VM that has the device which comes and goes."""

    DEVICE: ClassVar[str] = "/run/device.xml"
    SAVED: ClassVar[str] = "/var/tmp/saved"

    def go_on(self) -> None:
        """Let one thing happen to one VM."""
        running = self.guest.virsh("list", "--name").stdout.split()
        name = self.random.choice(self.names)
        move = self.random.choice(self._moves(name, name in running))
        print(f"{name}: {move.__name__}")
        move(name)

    def end(self) -> None:
        """Stop them all. What was cut off is undone, as a person would have it."""
        for name in self.names:
            self.guest.run(
                f"virsh -q destroy {name}; virsh -q managedsave-remove {name}", check=False
            )
        self.guest.wait("! pgrep -f '[h]ooks/qemu'")
        self.guest.wait("! pgrep -x qemu-system-x86")
        if self.interrupted:
            self.guest.run("vfio-hooks undo --all")
        self.guest.wait("! ls /run/vfio-hooks/*.journal 2> /dev/null")

    def _moves(self, name: str, is_running: bool) -> list[Callable[[str], None]]:
        if not is_running:
            killed = [self.hook_killed_at_start, self.qemu_killed_at_start]
            return [self.start, self.start, self.start, *killed, self.daemon_killed_at_start]
        moves = [self.destroy, self.reset, self.shut_down, self.save, self.qemu_killed]
        moves += [self.daemon_killed, self.hook_killed_at_end]
        if name == self.names[-1]:
            return [*moves, self.managed_save]
        return [*moves, self.unplug if self.plugged == name else self.plug]

    def start(self, name: str) -> None:
        self.guest.start(name)

    def hook_killed_at_start(self, name: str) -> None:
        self._killing(HOOK.format(name), 3, f"virsh -q start {name}")
        self.interrupted = True

    def qemu_killed_at_start(self, name: str) -> None:
        self._killing(QEMU.format(name), 3, f"virsh -q start {name}")
        self._is_settled(name)

    def daemon_killed_at_start(self, name: str) -> None:
        self._killing(DAEMON, 12, f"virsh -q start {name}")
        self._daemon_is_back()

    def daemon_killed(self, name: str) -> None:
        self._killing(DAEMON, 3, f"virsh -q destroy {name}")
        self._daemon_is_back()

    def hook_killed_at_end(self, name: str) -> None:
        self._killing(HOOK.format(name), 2, f"virsh -q destroy {name}")
        self.interrupted = True
        self._is_off(name)

    def qemu_killed(self, name: str) -> None:
        self.guest.run(f"kill -KILL $({QEMU.format(name)})")
        self._is_off(name)

    def destroy(self, name: str) -> None:
        self.guest.destroy(name)
        self._is_off(name)

    def reset(self, name: str) -> None:
        self.guest.virsh("reset", name)

    def shut_down(self, name: str) -> None:
        # A guest that has just begun does not hear the button yet.
        pressed = f"virsh -q shutdown {name} > /dev/null 2>&1"
        self.guest.wait(f"{pressed}; virsh domstate {name} | grep -q 'shut off'")
        self._is_off(name)

    def save(self, name: str) -> None:
        """One with devices cannot be saved, and the refusal changes nothing."""
        if name == self.names[-1]:
            self.guest.virsh("save", name, self.SAVED)
            self.guest.virsh("restore", self.SAVED)
            return
        before = self.guest.snapshot()
        assert self.guest.virsh("save", name, self.SAVED, check=False).returncode
        assert difference(before, self.guest.observe(before)[0]) == []

    def managed_save(self, name: str) -> None:
        self.guest.virsh("managedsave", name)

    def plug(self, name: str) -> None:
        line = ("attach-device", name, self.DEVICE, "--live")
        done = self.guest.virsh(*line, check=bool(not self.plugged))
        self.plugged = self.plugged if done.returncode else name

    def unplug(self, name: str) -> None:
        self.guest.virsh("detach-device", name, self.DEVICE, "--live")
        self.plugged = ""
        self.guest.wait(f"test -e /sys/bus/pci/drivers/nvme/{NVME[0]}")

    def _is_off(self, name: str) -> None:
        self.guest.wait(f"virsh domstate {name} | grep -q 'shut off'")
        if self.plugged == name:
            self.plugged = ""

    def _daemon_is_back(self) -> None:
        self.interrupted = True
        for name in self.names:
            self._is_settled(name)
        running = self.guest.virsh("list", "--name").stdout.split()
        for name in {*self.names}.difference(running):
            # libvirt forgets the number of a domain whose start was cut off, and its folder there.
            # The next start with that number then takes the folder as it is, without a rule of
            # AppArmor for it: "Permission denied".
            self.guest.run(f"rm -rf /dev/hugepages/libvirt/qemu/*-{name}")
        self.plugged = self.plugged if self.plugged in running else ""

    def _is_settled(self, name: str) -> None:
        """Wait until it is off, or runs and libvirt can talk to it."""
        off = f"virsh domstate {name} | grep -q 'shut off'"
        self.guest.wait(f"{off} || virsh qemu-monitor-command --hmp {name} 'info version'")

    def _killing(self, victim: str, seconds: float, line: str) -> None:
        """Run a command, and kill a process at a random moment of its first seconds."""
        moment = self.random.uniform(0, seconds)
        script = f"until p=$({victim}); do sleep 0.05; done; sleep {moment}; kill -KILL $p"
        killer = f"timeout {PATIENCE} sh -c {shlex.quote(script)}"
        self.guest.run(f"{killer} & {line}; wait", check=False)
