"""A desktop that runs in a tree, as an ordinary user, with nothing of this machine in reach."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.desktop.programs import Program
from tests.desktop.tree import USER
from tests.vm.process import VmError, last_line, poll
from vfio_hooks import commands
from vfio_hooks.errors import HookError
from vfio_hooks.host import WritableHost
from vfio_hooks.knobs.display_layout import DisplayLayout
from vfio_hooks.layouts import load

RUNTIME = "/run/user/1000"
_CAGE = "unshare --mount --pid --net --ipc --uts --fork --kill-child --mount-proc".split()
_ENTER = f"""\
set -e
mount -t proc proc "$1/proc"
for name in dev/shm home run tmp; do mount -t tmpfs -o mode=1777 none "$1/$name"; done
mkdir -p "$1{RUNTIME}" "$1/home/{USER}"
chmod 700 "$1{RUNTIME}"
chown 1000:1000 "$1{RUNTIME}" "$1/home/{USER}"
echo {"0123456789abcdef" * 2} >"$1/run/machine-id"  # dbus-broker has to know one
touch "$1/etc/machine-id"
mount --bind "$1/run/machine-id" "$1/etc/machine-id"
ip link set lo up
exec chroot "$@"
"""
# Another user's process forgets what unshare has told the kernel to send it at its own end.
_LEADER = "setpriv --reuid=1000 --regid=1000 --clear-groups --pdeathsig=KILL --".split()
_AS_USER = "setpriv --reuid=1000 --regid=1000 --clear-groups --".split()
_PATIENCE = 60.0
"""Seconds that a command may take here at least."""
_VARIABLES = {"PATH": "/usr/bin", "HOME": f"/home/{USER}", "XDG_RUNTIME_DIR": RUNTIME}


class Desktop(WritableHost):
    """A host whose commands run in the session of a program's desktop."""

    def __init__(self, tree: Path, program: Program, leader: int) -> None:
        super().__init__(str(tree))
        self.program = program
        self._leader = leader
        self._client = program.client
        self.told: list[str] = []
        self.tell = self.told.append

    @property
    def layout(self) -> DisplayLayout:
        """The knob for this desktop's monitors."""
        return DisplayLayout(self.program.back_end, USER, self.program.name, (), seconds=2)

    def show(self, argv: list[str], seconds: float = 30) -> str:
        spaces = ["nsenter", f"--target={self._leader}", "--mount", "--net", "--ipc", "--uts"]
        inside = ["chroot", self.root, *_AS_USER, *_env(self._client)]
        # On a busy machine a program answers late, which is nobody's fault.
        return commands.run([*spaces, *inside, *argv], max(seconds, _PATIENCE))

    def run(self, argv: list[str], seconds: float = 30) -> str:
        return self.show(argv, seconds)

    def beside(self, client: dict[str, str]) -> Desktop:
        """The same desktop, for programs with another environment."""
        other = Desktop(Path(self.root), self.program, self._leader)
        other._client = client
        return other

    @property
    def wayland(self) -> str:
        """The name of its socket for Wayland."""
        found = self.show(["sh", "-c", f"cd {RUNTIME}; ls -d wayland-?"])
        return found.split()[0]

    def sway(self, command: str) -> str:
        """What swaymsg prints."""
        find = f"SWAYSOCK=$(ls {RUNTIME}/sway-ipc.*.sock) exec swaymsg {command}"
        return self.show(["sh", "-c", find])

    def answers(self) -> bool:
        """Whether the program shows its three outputs."""
        try:
            text = self.show([load(self.program.back_end).PROGRAM, *self._query])
            return len(load(self.program.back_end).parse(text).modes) == 3
        except (HookError, ValueError):
            return False

    @property
    def _query(self) -> tuple[str, ...]:
        return load(self.program.back_end).QUERY


@contextmanager
def running(tree: Path, program: Program, log: Path) -> Iterator[Desktop]:
    """A desktop with three outputs. Raises VmError."""
    words = [*_CAGE, "sh", "-c", _ENTER, "sh", str(tree), *_LEADER, *_env(program.environment)]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*words, "sh", "-c", program.server],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    desktop = Desktop(tree, program, process.pid)
    try:
        _await(desktop, process, log)
        yield desktop
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the first process of the namespace, and so all in it. That it dies with unshare is
    forgotten when it becomes a program with capabilities, as KWin is one."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    # Any of them may end by itself meanwhile.
    with suppress(FileNotFoundError, ProcessLookupError):
        for pid in children.read_text(encoding="ascii").split():
            os.kill(int(pid), signal.SIGKILL)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(60)


def _await(desktop: Desktop, process: subprocess.Popen[bytes], log: Path) -> None:
    def is_up() -> bool:
        if process.poll() is not None:
            reason = last_line(log.read_text(encoding="utf-8", errors="replace"))
            raise VmError(f"{desktop.program.name} ended: {reason}")
        for command in desktop.program.prepare:
            try:
                desktop.run([*command])
            except HookError:
                return False
        return desktop.answers()

    poll(is_up, f"the start of {desktop.program.name}", deadline=60)


def _env(variables: dict[str, str]) -> list[str]:
    pairs = (f"{name}={value}" for name, value in {**_VARIABLES, **variables}.items())
    return ["env", "-i", *pairs]
