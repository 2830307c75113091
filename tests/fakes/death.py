"""Dying at a chosen moment: before, in the middle of, or after any write to journal or kernel."""

from collections.abc import Iterable
from dataclasses import dataclass

from tests.fakes.kernel import Kernel
from vfio_hooks.engine.disk import Disk
from vfio_hooks.host.shared_memory import Access


class Died(BaseException):
    """The process is gone. It is not an Exception, so that no error handling sees it."""


@dataclass
class Fate:
    """Counts moments, and ends the process at the one that it is set to (None: never)."""

    moment: int | None = None
    passed: int = 0

    def moves_on(self) -> None:
        if self.passed == self.moment:
            raise Died
        self.passed += 1


class MortalKernel(Kernel):
    """A kernel whose writer may die before and after each write."""

    fate = Fate()

    def write(self, name: str, text: str) -> None:
        self.fate.moves_on()
        super().write(name, text)
        self.fate.moves_on()

    def run(self, argv: list[str], seconds: float = 30) -> str:
        self.fate.moves_on()
        printed = super().run(argv, seconds)
        self.fate.moves_on()
        return printed

    def remove(self, name: str) -> None:
        self.fate.moves_on()
        super().remove(name)
        self.fate.moves_on()

    def make_folder(self, name: str) -> None:
        self.fate.moves_on()
        super().make_folder(name)
        self.fate.moves_on()

    def remove_folder(self, name: str) -> None:
        self.fate.moves_on()
        super().remove_folder(name)
        self.fate.moves_on()

    def make(self, name: str, size: int) -> None:
        self.fate.moves_on()
        super().make(name, size)
        self.fate.moves_on()

    def give(self, name: str, access: Access) -> None:
        self.fate.moves_on()
        super().give(name, access)
        self.fate.moves_on()

    def ask(self, name: str, text: str, seconds: float = 10) -> str:
        self.fate.moves_on()
        answer = super().ask(name, text, seconds)
        self.fate.moves_on()
        return answer

    def store(self, name: str, text: str) -> None:
        self.fate.moves_on()
        super().store(name, text)
        self.fate.moves_on()

    def set_affinity(self, pid: int, cpus: Iterable[int]) -> None:
        self.fate.moves_on()
        super().set_affinity(pid, cpus)
        self.fate.moves_on()


class Outlived(Kernel):
    """A kernel whose writer dies while a program that it has started goes on, the one with this
    number. What that does is done just before the next program is run."""

    number = 0
    ran_late: list[str] | None = None

    def run(self, argv: list[str], seconds: float = 30) -> str:
        self.number -= 1
        if self.number == -1:
            self.ran_late = argv
            raise Died
        if self.ran_late:
            late, self.ran_late = self.ran_late, None
            super().run(late)
        return super().run(argv, seconds)


class MortalDisk(Disk):
    """A disk whose writer may die before, in the middle of, between and after records."""

    def __init__(self, fate: Fate) -> None:
        super().__init__()
        self.fate = fate

    def append(self, path: str, lines: bytes) -> None:
        self.fate.moves_on()
        for part in sorted({len(lines) // 2, lines.find(b"\n") + 1} - {len(lines)}):
            try:
                self.fate.moves_on()
            except Died:
                super().append(path, lines[:part])
                raise
        super().append(path, lines)
        self.fate.moves_on()

    def remove(self, path: str) -> None:
        self.fate.moves_on()
        super().remove(path)
        self.fate.moves_on()

    def stamp(self, path: str, at: int) -> None:
        self.fate.moves_on()
        super().stamp(path, at)
        self.fate.moves_on()

    def resize(self, path: str, size: int) -> None:
        self.fate.moves_on()
        super().resize(path, size)
        self.fate.moves_on()
