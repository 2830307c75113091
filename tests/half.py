"""The first half of hooks/qemu, which a shell runs, with its folders below another root.

In place of Python it becomes a program that only fails: so it ends with 0 where there is nothing to
do, and else with 1.
"""

import os
import shutil
import subprocess
from pathlib import Path

HOOK = Path(__file__).parents[1] / "hooks/qemu"
SHELLS = {
    name: (shutil.which(command[0]) or command[0], *command[1:])
    for name, command in (
        ("dash", ("dash",)),
        ("bash", ("bash", "--posix")),
        ("busybox", ("busybox", "sh")),
    )
    if shutil.which(command[0])
}
"""What /bin/sh is: in Debian, in Fedora and Arch, in Alpine."""
_FOLDERS = ("/etc/libvirt/hooks", "/run/vfio-hooks", "/run/libvirt/qemu", "/usr/bin")


class Half:
    """A root with the hook in it, and nothing else."""

    def __init__(self, root: Path, shell: str = "dash") -> None:
        self.hooks, self.state, self.running, programs = (root / name[1:] for name in _FOLDERS)
        self._shell = SHELLS[shell]
        text = HOOK.read_text()
        for name in _FOLDERS:
            text = text.replace(f"={name}", f"={root}{name}")
            (root / name[1:]).mkdir(parents=True)
        self.path = self.hooks / "qemu"
        self.path.write_text(text)
        (programs / "python3").symlink_to("/bin/false")
        self._python = programs / "python3"

    def starts_python(self, vm: str | bytes, op: str) -> bool:
        """Whether the hook goes on to Python for an event."""
        done = self.run(os.fsencode(vm), op)
        assert not done.stdout + done.stderr, (vm, op, done.stderr)
        return bool(done.returncode)

    def run(
        self, *arguments: str | bytes, under: tuple[str, ...] = ()
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run the hook, if given `under` a command that runs another one."""
        return subprocess.run(
            [*under, *self._shell, self.path, *arguments],
            capture_output=True,
            env={"LC_ALL": "C", "PATH": "/usr/bin" if under else "/nowhere"},
            timeout=60,
        )

    def remove_python(self) -> None:
        self._python.unlink()

    def manage(self, vm: str, toml: str = "") -> Path:
        """Make a VM a managed one; returns its folder."""
        folder = self.hooks / "qemu.d" / vm
        folder.mkdir(parents=True)
        (folder / "vm.toml").write_text(toml)
        return folder

    def start(self, vm: str) -> None:
        """What libvirt leaves for a VM while it runs."""
        (self.running / f"{vm}.xml").write_text("<domstatus/>")

    def stop(self, vm: str) -> None:
        """Take that away again."""
        (self.running / f"{vm}.xml").unlink(missing_ok=True)

    def age(self) -> None:
        """Make every file of the configuration look as if it was changed a minute ago."""
        for path in (*self.hooks.rglob("*"), self.hooks):
            at = path.stat().st_mtime_ns - 60 * 10**9
            os.utime(path, ns=(at, at))
