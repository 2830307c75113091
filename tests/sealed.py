"""The real dispatcher, as libvirt runs it, sealed off from this machine.

A mount namespace of its own has a folder of the test's bound over /etc/libvirt, /run, /sys and
/var/lib, so hooks/qemu and the package run unchanged, at their real paths, and can reach nothing
else of what they would change.
"""

import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
_ENTER = """
set -e
for name in etc/libvirt run sys var/lib; do mount --bind "$1/$name" "/$name"; done
shift
exec "$@"
"""
# What libvirt gives a hook; HOME and USER may be absent.
ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


@dataclass(frozen=True)
class Result:
    """How a run ended, and what it printed."""

    code: int
    stdout: bytes
    stderr: str


class Sealed:
    """A host of its own below `root`, with the dispatcher installed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hooks = root / "etc/libvirt/hooks"
        self.state = root / "run/vfio-hooks"
        (self.hooks / "qemu.d").mkdir(parents=True)
        (root / "run/systemd/journal").mkdir(parents=True)
        (root / "sys").mkdir(exist_ok=True)
        (root / "var/lib").mkdir(parents=True, exist_ok=True)
        Path("/etc/libvirt").mkdir(exist_ok=True)
        self._journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._journal.bind(str(root / "run/systemd/journal/socket"))
        self._journal.setblocking(False)
        self.install(CHECKOUT)

    def install(self, library: Path) -> None:
        """Put the dispatcher in place, using the package in `library`."""
        text = (CHECKOUT / "hooks/qemu").read_text()
        hook = self.hooks / "qemu"
        hook.write_text(text.replace("/usr/local/lib/vfio-hooks", str(library)))
        hook.chmod(0o755)

    def manage(self, vm: str, toml: str = "[pci]\n") -> Path:
        """Make a VM a managed one; returns its folder."""
        folder = self.hooks / "qemu.d" / vm
        folder.mkdir(exist_ok=True)
        (folder / "vm.toml").write_text(toml)
        return folder

    def hook(self, vm: str, op: str, xml: str | bytes = b"", extra: str = "-") -> Result:
        """One call of the hook by libvirt."""
        subop = "end" if op in ("stopped", "release") else "begin"
        return self.run("/etc/libvirt/hooks/qemu", vm, op, subop, extra, stdin=xml)

    def popen(self, *argv: str) -> "subprocess.Popen[bytes]":
        """Start a command inside, with pipes, and do not wait."""
        return subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", _ENTER, "sh", str(self.root), *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            cwd="/",
        )

    def run(self, *argv: str, stdin: str | bytes = b"", seconds: float = 120) -> Result:
        """Run a command inside."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        with self.popen(*argv) as process:
            stdout, stderr = process.communicate(data, timeout=seconds)
            return Result(process.returncode, stdout, stderr.decode(errors="replace"))

    def journals(self) -> list[str]:
        """The files that hold the state of VMs."""
        return sorted(file.name for file in self.state.glob("*.journal"))

    def logged(self) -> list[str]:
        """What was sent to the systemd journal since the last call."""
        lines: list[str] = []
        while True:
            try:
                datagram = self._journal.recv(1 << 16)
            except BlockingIOError:
                return lines
            _, _, message = datagram.partition(b"\nMESSAGE\n")
            lines.append(message[8:].decode().rstrip("\n"))


def can_seal() -> bool:
    """Whether this process may make mount namespaces."""
    if os.geteuid():
        return False
    return not subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode
