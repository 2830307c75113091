"""What the events of a VM cost, in what does not depend on the machine: processes, opened files,
modules. What they take of its time is in tests/bench/hook.py."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.hook import CHECKOUT, OPS, TABLES, Installed, fill, install

pytestmark = pytest.mark.real_processes
_LISTED = """
import os, sys
sys.argv = sys.argv[1:]
os._exit = sys.exit
try:
    exec(compile(open(sys.argv[0]).read(), sys.argv[0], "exec"))
except SystemExit as ended:
    print(sys.getallocatedblocks(), *sys.modules, file=sys.stderr)
    sys.exit(ended.code)
"""
_PYTHON = ("/usr/bin/python3", "-IS", "-c", _LISTED)
_TRACE = ("strace", "-f", "-e", "trace=execve,fork,vfork,clone,clone3,open,openat", "-o")
SLOW = {"dataclasses", "inspect", "ast", "dis", "subprocess", "site", "asyncio"}
"""What takes long to import, or long to make classes with."""
UNUSED = {"traceback", "difflib", "signal", "socket"}
UNUSED_AT_THE_END = UNUSED | {"typing", "tomllib", "pyexpat"}
"""What an event does not import as long as all goes well."""


OPENS = {
    "pci, governor, hugepages": {"prepare": 600, "release": 250},
    "pci, cpus, irqs, governor, hugepages": {
        "prepare": 1200,
        "started": 300,
        "stopped": 600,
        "release": 250,
    },
}
"""The most that an event may open, a Python's start and its modules included."""
IDLE = 8
MODULES = {"prepare": 200, "start": 200, "started": 200, "stopped": 130, "release": 130}
"""The most modules that an event may have loaded, whether it had something to do or not."""
BLOCKS = 70_000
"""The most that it may have allocated then: 46,000 are 13 MiB, and of these 8,000 its own."""


@pytest.fixture(params=OPENS)
def tables(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def installed(memory: Path, tables: str) -> Installed:
    return install(CHECKOUT, memory, "", TABLES[tables])


def run(installed: Installed, op: str, *under: str, started: tuple[str, ...] = ()) -> str:
    """Handle an event, and return what is printed on standard error."""
    command = installed.event("win11", op)
    with Path(command.stdin).open("rb") as xml:
        done = subprocess.run(
            [*under, *started, *command.argv],
            stdin=xml,
            capture_output=True,
            text=True,
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            timeout=120,
        )
    assert (done.returncode, done.stdout) == (0, "")
    return done.stderr


def test_processes_and_opened_files(installed: Installed, tables: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for op in OPS:
        assert run(installed, op, *_TRACE, str(trace)) == ""
        calls = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines()]
        children = [call for call in calls if call.startswith(("fork", "vfork", "clone"))]
        opens = [call for call in calls if call.startswith("open")]
        assert not children, op
        assert len(opens) <= OPENS[tables].get(op, IDLE), op


def test_the_journal_of_another_vm_is_read_once(installed: Installed, tmp_path: Path) -> None:
    fill(installed, vms=1, claims=3)
    (other,) = installed.state.glob("*.journal")
    for op in OPS:
        run(installed, op, *_TRACE, str(tmp_path / "trace"))
        assert (tmp_path / "trace").read_text().count(str(other)) <= 1, op


def test_programs_are_started_without_the_module_subprocess(installed: Installed) -> None:
    """A VM's executables, and a hook that was kept; both get the XML."""
    hooks, xml = installed.hook.parent, (installed.root / "domain.xml").read_text()
    programs = (hooks / "qemu.kept", hooks / "qemu.d/win11/prepare/begin/run.sh")
    for path in programs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\ncat > {installed.root}/{path.name}\n")
        path.chmod(0o755)
    modules = run(installed, "prepare", started=_PYTHON).split()
    assert "subprocess" not in modules
    assert [(installed.root / path.name).read_text() for path in programs] == [xml, xml]


def test_modules_and_memory(installed: Installed) -> None:
    """Each event by Python, idle or not, and none with a module that Python does not come with."""
    for op in OPS:
        blocks, *modules = run(installed, op, started=_PYTHON).split()
        assert int(blocks) <= BLOCKS, op
        names = {module.partition(".")[0] for module in modules}
        assert names <= {*sys.stdlib_module_names, "vfio_hooks", "__main__"}
        unused = UNUSED_AT_THE_END if op in ("stopped", "release") else UNUSED
        assert not (SLOW | unused) & set(modules), op
        assert len(modules) <= MODULES[op], op
