"""Programs beside a VM: they end with QEMU's process, and say how a helper ended."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vfio_hooks import services
from vfio_hooks.host.unit_syntax import escape, quote, unit_name
from vfio_hooks.log import SystemdJournal
from vfio_hooks.wait import until

pytestmark = pytest.mark.real_processes
UNIT_NAMES = [
    ("win11", "win11"),
    ("my vm", "my\\x20vm"),
    ("-x", "\\x2dx"),
    (".hidden", "\\x2ehidden"),
    ("a.b_c:d", "a.b_c:d"),
    ("Büro", "B\\xc3\\xbcro"),
    ("a/b", "a-b"),
    ("$(touch x)", "\\x24\\x28touch\\x20x\\x29"),
]


@pytest.mark.parametrize(("text", "escaped"), UNIT_NAMES)
def test_a_name_is_escaped_as_systemd_does(text: str, escaped: str) -> None:
    assert escape(text) == escaped
    program = "/usr/bin/systemd-escape"
    if os.path.exists(program):
        done = subprocess.run([program, "--", text], capture_output=True, text=True, timeout=60)
        assert done.stdout == escaped + "\n"


def test_a_name_that_is_too_long_for_a_unit() -> None:
    assert unit_name("win11", "a") == "vfio-hooks-win11-a.service"
    with pytest.raises(ValueError, match="too long"):
        unit_name("ü" * 80, "a")


def test_a_quoted_command_line() -> None:
    assert quote(("/bin/x", 'a "b" \\ $c')) == '"/bin/x" "a \\"b\\" \\\\ $$c"'


def start(*words: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([*services.argv("vfio_hooks.services", *words)])


def test_it_ends_with_the_vm(tmp_path: Path) -> None:
    pidfile = tmp_path / "vm.pid"
    with start("until", str(pidfile)) as program:
        try:
            # libvirt has not started QEMU yet.
            assert not until(lambda: program.poll() is not None, 0.3)
            with subprocess.Popen(["sleep", "60"]) as qemu:
                pidfile.write_text(f"{qemu.pid}\n")
                assert not until(lambda: program.poll() is not None, 0.3)
                qemu.kill()
            assert until(lambda: program.poll() == 0, 60)
        finally:
            program.kill()


def test_it_ends_when_the_vm_never_comes(tmp_path: Path) -> None:
    pidfile = tmp_path / "vm.pid"
    pidfile.write_text("4194305\n")  # larger than any process's number
    with start("until", str(pidfile), "--starts", "0.2") as program:
        assert program.wait(60) == 0


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("success exited 0", ""),
        ("exit-code exited 3", "vm: process: radio ended: exit code 3; "),
        ("signal killed SEGV", "vm: process: radio ended: killed by SIGSEGV; "),
        ("timeout killed KILL", "vm: process: radio ended: killed by SIGKILL (timeout); "),
    ],
)
def test_how_a_helper_ended(how: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[tuple[str, str]] = []
    monkeypatch.setattr(SystemdJournal, "warning", lambda self, text, vm: lines.append((text, vm)))
    names = ("SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS")
    services.tell_end("vm", "radio", dict(zip(names, how.split(), strict=True)))
    assert [vm for _, vm in lines] == ["vm"] * bool(told)
    assert all(text.startswith(told) for text, _ in lines)


def test_it_needs_nothing_but_the_standard_library() -> None:
    code = "import sys, vfio_hooks.services; print('argparse' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"
