"""The host as files below a root: "/" for this machine, a folder for a captured one.

`Host` only reads, and is all that a plugin gets. `WritableHost` is the engine's: every change
that vfio-hooks makes to a host goes through its methods.
"""

from __future__ import annotations

import errno
import os
import time

from vfio_hooks.errors import HookError, reason
from vfio_hooks.wait import POLL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vfio_hooks.host.in_use import Opened
    from vfio_hooks.host.shared_memory import Access, Shared

_PIECE = 1 << 16


class Seen:
    """What a look at all processes of this machine found, for `in_use`; None before the first look.

    A look takes long on a host with thousands of processes. The engine begins each event with a new
    `Seen`.
    """

    def __init__(self) -> None:
        self.writers: dict[str, int] | None = None
        """The children that `write_aside` left behind, by name."""
        self.opened: tuple[float, Opened] | None = None
        """The devices that they have open, and when that was so (time.monotonic())."""


class Host:
    """Reads the files of a host. Names are absolute paths on the host itself: "/sys/bus/pci"."""

    def __init__(self, root: str = "/") -> None:
        self.root = "" if root == "/" else root.rstrip("/")
        self.seen = Seen()

    @property
    def is_this_machine(self) -> bool:
        """False for a folder that stands for a host, for which no command can be run."""
        return not self.root

    def path(self, name: str) -> str:
        """Where the host's file `name` is on this machine."""
        return self.root + name

    def read(self, name: str) -> str:
        """The text of a file without the white space around it. Raises OSError."""
        # Not open(): it makes three more system calls, and a large host has very many files.
        descriptor = os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            pieces = [os.read(descriptor, _PIECE)]
            # A read of a procfs file may return less than it was asked for.
            while pieces[-1]:
                pieces.append(os.read(descriptor, _PIECE))
        finally:
            os.close(descriptor)
        return b"".join(pieces).decode(errors="replace").strip()

    def maybe(self, name: str) -> str | None:
        """The text of a file, or None if it cannot be read."""
        try:
            return self.read(name)
        except OSError:
            return None

    def lines(self, name: str) -> list[str]:
        """The lines of a file; none if it cannot be read."""
        # Not splitlines: it also splits at U+2028, which the name of a mounted folder may contain.
        text = self.maybe(name)
        return text.split("\n") if text else []

    def names(self, folder: str) -> list[str]:
        """The sorted names in a folder; none if there is no such folder."""
        try:
            return sorted(os.listdir(self.path(folder)))
        except OSError:
            return []

    def exists(self, name: str) -> bool:
        """Whether there is such a file or folder."""
        return os.path.exists(self.path(name))

    def link(self, name: str) -> str | None:
        """The last part of what a symbolic link points to, or None if there is no link."""
        try:
            return os.path.basename(os.readlink(self.path(name)))
        except OSError:
            return None

    def look(self, name: str) -> Shared | None:
        """What is at a path, by `shared_memory.look`. Raises OSError."""
        from vfio_hooks.host.shared_memory import look

        return look(self.path(name))

    def show(self, argv: list[str], seconds: float = 30) -> str:
        """The output of a command that only reads, such as `systemctl show`.

        Raises HookError if it fails, does not exist, or takes longer than `seconds`.
        """
        if not self.is_this_machine:
            raise HookError(f"{argv[0]} cannot be run for the host below {self.root}")
        from vfio_hooks.commands import run

        return run(argv, seconds)

    def ask(self, name: str, text: str, seconds: float = 10) -> str:
        """Send a request to a daemon's stream socket, and return its answer.

        Raises HookError if there is no answer within `seconds`.
        """
        if not self.is_this_machine:
            raise HookError(f"{name}: there is no service for the host below {self.root}")
        from vfio_hooks.sockets import ask

        return ask(name, text, seconds)


class WritableHost(Host):
    """A host that may be changed."""

    def __init__(self, root: str = "/") -> None:
        super().__init__(root)
        self.tell: Callable[[str], None] = lambda text: None
        """Called with what a long write has to say meanwhile; the engine puts it into its log."""

    def write(self, name: str, text: str) -> None:
        """Write `text` in one write(2), as sysfs and procfs need it.

        Raises OSError, with the kernel's errno.
        """
        descriptor = os.open(self.path(name), os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    def write_aside(self, name: str, text: str, seconds: float, title: str) -> None:
        """`write` in a child process, for a write that the kernel may never return from.

        A driver's remove routine waits, unkillably, until every program has closed the device. A
        child can be left behind in that state; this process cannot. Raises OSError as `write`
        does, and with errno ETIMEDOUT if `seconds` were not enough. Then the write may still
        happen later, and the child, named `title`, exists until it does.
        """
        child = os.fork()
        if not child:
            os._exit(self._write_and_report(name, text, title))
        deadline = time.monotonic() + seconds
        while True:
            # Checked once more after the deadline, as the machine may have stood still.
            late = time.monotonic() > deadline
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            if late:
                self.seen.writers = None
                raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), name)
            time.sleep(POLL / 10)
        if number := os.waitstatus_to_exitcode(status):
            raise OSError(abs(number), os.strerror(abs(number)), name)

    def _write_and_report(self, name: str, text: str, title: str) -> int:
        try:
            with open("/proc/self/comm", "w", encoding="utf-8") as comm:
                comm.write(title)
            # libvirt waits until all processes have closed its pipes, and children inherit the lock
            # of the state folder: a child that stays behind must hold neither.
            os.closerange(0, os.sysconf("SC_OPEN_MAX"))
            os.setsid()
            self.write(name, text)
        except OSError as error:
            return error.errno or errno.EIO
        except BaseException:
            return errno.EIO
        return 0

    def store(self, name: str, text: str) -> None:
        """Make or replace one of our files on a file system in memory. Raises HookError."""
        try:
            with open(self.path(name), "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise refused("write", name, error) from None

    def keep(self, name: str, text: str, mode: int = 0o644) -> None:
        """Make or replace a file that survives a reboot, with its folders. If the host crashes, the
        file is either complete or as it was before. Raises OSError."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with open(f"{path}.new", "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(f"{path}.new", mode)
        os.rename(f"{path}.new", path)

    def remove(self, name: str) -> None:
        """Remove a file, and its folder if that is empty then. Raises OSError."""
        os.unlink(self.path(name))
        try:
            os.rmdir(self.path(os.path.dirname(name)))
        except OSError:
            pass

    def make_folder(self, name: str) -> None:
        """Make a folder, which on a control group file system is a group. Raises OSError."""
        os.mkdir(self.path(name))

    def remove_folder(self, name: str) -> None:
        """Remove a folder, or a control group without processes. Raises OSError."""
        os.rmdir(self.path(name))

    def make(self, name: str, size: int) -> None:
        """Make a file for shared memory, by `shared_memory.make`. Raises OSError."""
        from vfio_hooks.host.shared_memory import make

        make(self.path(name), size)

    def give(self, name: str, access: Access) -> None:
        """Set a file's owner, group and permissions, by `shared_memory.give`. Raises OSError."""
        from vfio_hooks.host.shared_memory import give

        give(self.path(name), access)

    def set_affinity(self, pid: int, cpus: Iterable[int]) -> None:
        """Let a thread of this machine run on these CPUs only. Raises OSError."""
        if not self.is_this_machine:
            raise OSError(errno.ESRCH, os.strerror(errno.ESRCH), f"/proc/{pid}")
        os.sched_setaffinity(pid, cpus)

    def run(self, argv: list[str], seconds: float = 30) -> str:
        """Run a command that changes this machine, and return what it printed.

        Raises HookError as `show` does.
        """
        return Host.show(self, argv, seconds)


def refused(action: str, name: str, error: OSError, hint: str = "") -> HookError:
    """An error for people about a failed read or write of one of the host's files."""
    return HookError(f"{name}: cannot {action}: {reason(error)}", hint)
