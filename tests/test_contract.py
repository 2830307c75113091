"""The contract with libvirt inside one process: case by case what test_dispatch shows of whole
processes, and what these cannot be brought to."""

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes.kernel import Lines
from vfio_hooks import dispatch
from vfio_hooks.dispatch import main
from vfio_hooks.errors import HookError, Strict
from vfio_hooks.event import Event
from vfio_hooks.paths import Paths

pytestmark = pytest.mark.real_processes
XML = b"<domain/>"
FAILS = HookError("card: is gone", "plug it in")
OFTEN = ("win11", "prepare", "begin", "-")


@dataclass
class Libvirt:
    """Calls the hook in this process, with folders of its own and a `handle` that only notes."""

    root: Path
    log: Lines = field(default_factory=Lines)
    handled: list[tuple[Event, bytes, Paths]] = field(default_factory=list)
    error: BaseException | None = None

    def __post_init__(self) -> None:
        (self.root / "hooks/qemu.d/win11").mkdir(parents=True)
        (self.root / "state").mkdir()

    @property
    def kept(self) -> Path:
        return self.root / "hooks/qemu.kept"

    def handle(self, event: Event, xml: bytes, paths: Paths, log: Lines) -> None:
        self.handled.append((event, xml, paths))
        print("a plugin's own words")
        os.write(1, b"and those of a library\n")
        if self.error:
            raise self.error

    def keep(self, script: str) -> None:
        self.kept.write_text(script)
        self.kept.chmod(0o755)


@pytest.fixture
def libvirt(memory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Libvirt]:
    caller = Libvirt(memory)
    monkeypatch.setattr(dispatch, "HOOKS", str(memory / "hooks"))
    monkeypatch.setattr(dispatch, "STATE", str(memory / "state"))
    monkeypatch.setattr(dispatch, "KEPT", str(caller.kept))
    monkeypatch.setattr("vfio_hooks.hook.handle", caller.handle)
    monkeypatch.setattr("vfio_hooks.log.SystemdJournal", lambda **_: caller.log)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=BytesIO(XML)))
    stdout, handlers = os.dup(1), {number: signal.getsignal(number) for number in (13, 25)}
    yield caller
    os.dup2(stdout, 1)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_an_event_reaches_its_handler_whole(libvirt: Libvirt, memory: Path) -> None:
    assert main(["qemu", "win11", "release", "end", "shutdown"]) == 0
    paths = Paths(str(memory / "hooks"), str(memory / "state"), "/")
    assert libvirt.handled == [(Event("win11", "release", "end", "shutdown"), XML, paths)]


def test_without_standard_input_there_is_no_xml(
    libvirt: Libvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["qemu", "win11", "prepare"]) == 0
    assert [xml for _, xml, _ in libvirt.handled] == [b""]


@pytest.mark.parametrize(
    ("op", "error", "told"),
    [
        ("prepare", None, ""),
        ("prepare", FAILS, "card: is gone; plug it in"),
        ("start", FAILS, "card: is gone; plug it in"),
        ("start", ValueError("two\n lines"), "ValueError: two lines"),
        ("prepare", SystemExit(3), "SystemExit: 3"),
        ("prepare", KeyboardInterrupt(), "KeyboardInterrupt:"),
        # Libvirt would kill the guest that runs already, and does where that is asked for.
        ("started", FAILS, ""),
        ("started", Strict("card: is gone", "plug it in"), "card: is gone; plug it in"),
        ("stopped", FAILS, ""),
        ("release", SystemExit(3), ""),
    ],
)
def test_only_what_keeps_a_guest_from_starting_is_told(
    libvirt: Libvirt,
    capfd: pytest.CaptureFixture[str],
    op: str,
    error: BaseException | None,
    told: str,
) -> None:
    libvirt.error = error
    code = main(["qemu", "win11", op, "begin", "-"])
    out, err = capfd.readouterr()
    assert (code, err) == ((1, f"vfio-hooks: {told}\n") if told else (0, ""))
    assert "and those of a library" not in out
    assert len(libvirt.log.warnings) == (error is not None)
    assert all(line.startswith(f"win11: {op} failed: ") for line in libvirt.log.warnings)


@pytest.mark.parametrize(("op", "code"), [("prepare", 1), ("started", 0), ("stopped", 0)])
def test_a_package_that_is_half_there(
    libvirt: Libvirt,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    op: str,
    code: int,
) -> None:
    """Even the errors that it would raise may be missing."""
    monkeypatch.setitem(sys.modules, "vfio_hooks.errors", None)
    assert main(["qemu", "win11", op]) == code
    assert capsys.readouterr().err.count("ModuleNotFoundError") == code


@pytest.mark.parametrize(
    ("vm", "op", "is_ours"),
    [
        ("win11", "prepare", True),
        ("win11", "release", True),
        ("other", "prepare", False),
        ("win11", "migrate", False),
        ("win11", "reconnect", True),
        ("win11", "", False),
        ("win11", "../win11", False),
        ("../qemu.d/win11", "prepare", False),
        ("", "prepare", False),
        (".", "prepare", False),
        ("..", "prepare", False),
    ],
)
def test_which_events_are_ours(libvirt: Libvirt, vm: str, op: str, is_ours: bool) -> None:
    (libvirt.root / "hooks/qemu.d/win11/reconnect").mkdir()
    assert main(["qemu", vm, op]) == 0
    assert bool(libvirt.handled) == is_ours


@pytest.mark.parametrize("argv", [["qemu"], ["qemu", "win11"]])
def test_a_call_without_arguments_is_nobody_s(libvirt: Libvirt, argv: list[str]) -> None:
    assert main(argv) == 0
    assert not libvirt.handled


def test_a_user_s_own_libvirt_is_not_ours(
    libvirt: Libvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["qemu", *OFTEN]) == 0
    assert not libvirt.handled


@pytest.mark.parametrize(
    ("file", "text", "op", "is_ours"),
    [
        ("a.journal", "", "release", True),
        ("a.journal", "", "prepare", False),
        ("lock", "\0", "stopped", True),
        ("lock", "", "stopped", False),
        ("other", "text", "stopped", False),
    ],
)
def test_the_end_of_any_vm_may_have_to_undo(
    libvirt: Libvirt, file: str, text: str, op: str, is_ours: bool
) -> None:
    (libvirt.root / "state" / file).write_text(text)
    assert main(["qemu", "other", op]) == 0
    assert bool(libvirt.handled) == is_ours


def test_without_a_state_folder_nothing_is_undone(libvirt: Libvirt) -> None:
    (libvirt.root / "state").rmdir()
    assert main(["qemu", "other", "release"]) == 0
    assert not libvirt.handled


@pytest.mark.parametrize(("code", "error"), [(0, None), (7, None), (1, FAILS)])
def test_the_kept_hook_runs_after_ours(
    libvirt: Libvirt, code: int, error: BaseException | None
) -> None:
    """With all that libvirt gave; not at all after a failure of ours, which stops the start."""
    libvirt.error = error
    to = libvirt.root / "stdout"
    libvirt.keep(f'#!/bin/sh\necho "$@" "$(cat)"; exit {code}\n')
    with to.open("wb") as file:
        os.dup2(file.fileno(), 1)
    assert main(["qemu", *OFTEN]) == code
    assert to.read_text() == ("" if error else "win11 prepare begin - <domain/>\n")


def test_the_process_becomes_the_kept_hook_where_nothing_is_ours(
    libvirt: Libvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[Any] = []

    def execv(path: str, argv: list[str]) -> None:
        became.extend((path, argv, *map(signal.getsignal, (13, 25))))
        raise SystemExit(9)

    monkeypatch.setattr(os, "execv", execv)
    libvirt.keep("#!/bin/sh\n")
    with pytest.raises(SystemExit):
        main(["qemu", "other", *OFTEN[1:]])
    kept = str(libvirt.kept)
    assert became == [kept, [kept, "other", *OFTEN[1:]], signal.SIG_DFL, signal.SIG_DFL]


@pytest.mark.parametrize("vm", ["win11", "other"])
@pytest.mark.parametrize(("op", "code"), [("prepare", 1), ("start", 1), ("stopped", 0)])
def test_a_kept_hook_that_cannot_be_run(
    libvirt: Libvirt, capsys: pytest.CaptureFixture[str], vm: str, op: str, code: int
) -> None:
    libvirt.keep("#!/no/such/shell\n")
    assert main(["qemu", vm, op]) == code
    told = (
        f"{libvirt.kept}: cannot be run: No such file or directory; fix its interpreter line, or "
        "move the file away"
    )
    assert capsys.readouterr().err == f"vfio-hooks: {told}\n" * code
    assert libvirt.log.warnings == [f"{vm}: {told}"]
