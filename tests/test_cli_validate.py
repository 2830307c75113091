"""vfio-hooks validate."""

import os
import re
import tempfile
from pathlib import Path

import pytest

from tests.command import Command, as_nobody, needs_root

pytestmark = pytest.mark.real_processes


def test_what_is_right_is_said(command: Command) -> None:
    command.manage("win11")
    command.manage("a b", "")
    (command.hooks / "vfio-hooks.toml").write_text("[pci]\ntimeout = 5\n")
    (command.hooks / "qemu.d/10-other-hook").touch()
    result = command.here("validate")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "OK  vfio-hooks.toml: host-wide defaults",
        "OK  qemu.d/win11: [pci]",
        "--  qemu.d/a b: nothing is done for this VM: it has no table and no executable; write "
        "[pci] into its vm.toml, or try vfio-hooks init",
    ]
    assert command.here("validate", "--all").out == result.out


def test_every_problem_of_every_file_is_told_once(command: Command) -> None:
    command.manage("a", "[pci]\ntimout = 1\ndriver = 2\n")
    command.manage("b", "[pci]\n")
    command.manage("c", "[pci\n")
    (command.hooks / "vfio-hooks.toml").write_text("[pci]\ntimeout = '5'\n")
    result = command.here("validate")
    assert (result.code, result.out) == (1, "")
    assert [line.partition("; ")[0] for line in result.err.splitlines()] == [
        'vfio-hooks: HOOKS/vfio-hooks.toml:2: timeout in [pci] must be a number, not "5"',
        'vfio-hooks: HOOKS/qemu.d/a/vm.toml:2: unknown key "timout" in [pci]',
        "vfio-hooks: HOOKS/qemu.d/a/vm.toml:3: driver in [pci] must be a string, not 2",
        "vfio-hooks: HOOKS/qemu.d/c/vm.toml:1: not valid TOML: Expected ']' at the end of a "
        "table declaration (column 5): [pci",
    ]


@pytest.mark.parametrize(
    ("toml", "hint"),
    [
        ('[cpus]\ncpus = "4-7"', "<vcpupin> in the VM's XML says which CPUs"),
        ('[governor]\ncpus = "4-7"', "<vcpupin> in the VM's XML says which CPUs"),
        ("[hugepages]\npages = 8192", "<memory> in the VM's XML says how many pages"),
        ('[hugepages]\nsize = "2M"', "<memory> in the VM's XML says how many pages"),
    ],
)
def test_where_that_is_said_instead(command: Command, toml: str, hint: str) -> None:
    command.manage("win11", toml)
    result = command.here("validate", "win11")
    assert f"; {hint}" in result.err and "allowed" not in result.err


@pytest.mark.parametrize(
    "toml",
    [
        '[check]\n\nsilence = ["x"]',
        '[display]\nprimary = "x"\noutputs = [{ rate = 60 }]',
        '[display]\nprimary = "x"\noutputs = [{ name = "x", position = "left" }]',
        "[gpu]\n# The first one's.\nbar_sizes = { 6 = 256 }",
        '[governor]\ncpus = "all"\ngovernor = ""',
        "[governor]\nboost = true\nmin_freq = 0",
        '[hugepages]\n\nnodes = "a"',
        "[hugepages]\n\ntimeout = -1",
        "[inhibit]\n\nwhat = []",
        "[memory]\nksm = 0\nswappiness = 201",
        '[pci]\n\ndriver = "nvidia"',
        '[pci]\ngroup = "bind"\ntimeout = -1',
        '[[process]]\nuser = "me"\ncommand = "say it\'s"',
        '[[process]]\nuser = "me"\ncommand = ""',
        '[[process]]\ncommand = "a"\nenvironment = { "1" = "a" }',
        '[[process]]\ncommand = "a"\nname = ""',
        '[[process]]\ncommand = "a"\nfolder = "a"',
        '[[process]]\ncommand = "a"\ntimeout = 0',
        '[[service]]\naction = "stop"\nunit = "a b"',
        '[[service]]\naction = "stop"\nunit = "libvirtd"',
        '[[service]]\naction = "stop"\nunit = "a"\ntimeout = 0',
        '[[shm]]\nsize = 32\nname = "/"',
        '[[shm]]\nname = "a"\nsize = 0',
        '[[shm]]\nname = "a"\nmode = "9"',
        '[[sriov]]\npf = "a"\nnumvfs = -1',
        '[[sriov]]\npf = "a"\nmax_tx_rate = -1',
        "[[sriov]]\nnumvfs = 2\nvf = 1",
        '[[sriov]]\npf = "a"\nqos = 1',
        '[[sriov]]\npf = "a"\nmac = "a"',
        '[[usb]]\ndriver = "none"\ndevice = "a"',
        '[[usb]]\ndevice = "1-4"\ndriver = ""',
        "[verify]\n\nseconds = 0",
        '[[write]]\nvalue = 1\npath = "/etc/passwd"',
    ],
)
def test_a_mistake_is_told_with_its_line(command: Command, toml: str) -> None:
    command.manage("win11", toml)
    (told,) = command.here("validate", "win11").err.splitlines()
    line = toml.count("\n") + 1
    key = toml.splitlines()[-1].partition(" ")[0]
    assert re.match(rf"vfio-hooks: \S+vm\.toml:{line}: \[\w+\]: {key}\b", told)


def test_a_misspelled_key_is_not_missed_by_another_one(command: Command) -> None:
    command.manage("win11", '[[sriov]]\npff = "enp7s0f1"\nvf = 1\nqos = 9\n')
    result = command.here("validate", "win11")
    assert result.err.count("\n") == 2 and "vf needs pf" not in result.err
    command.manage("win11", '[[sriov]]\npff = "enp7s0f1"\nvf = 1\n')
    assert command.here("validate", "win11").err.count("\n") == 1


def test_right_and_wrong_together(command: Command) -> None:
    command.manage("a", "dry_run = 1")
    command.manage("b")
    result = command.here("validate")
    assert (result.code, result.out) == (1, "OK  qemu.d/b: [pci]\n")
    assert result.err.count("\n") == 1
    alone = command.here("validate", "b")
    assert (alone.code, alone.out, alone.err) == (0, result.out, "")
    assert command.here("validate", "a").code == 1


def test_json(command: Command) -> None:
    command.manage("a", "dry_run = 1")
    command.manage("b")
    result = command.here("validate", "--json")
    assert (result.code, result.err) == (1, "")
    assert result.json == {
        "right": ["qemu.d/b: [pci]"],
        "wrong": ["HOOKS/qemu.d/a/vm.toml:1: dry_run must be true or false, not 1"],
        "idle": [],
    }


def executable(command: Command, name: str, mode: int = 0o755) -> None:
    path = command.hooks / "qemu.d" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)


def test_executables_are_something_that_is_done(command: Command) -> None:
    executable(command, "a/release/end/x.sh")
    command.manage("b")
    executable(command, "b/start/begin")
    assert command.here("validate").out.splitlines() == [
        "OK  qemu.d/a: release/end",
        "OK  qemu.d/b: [pci], start/begin",
    ]
    executable(command, "b/start/begin", 0o777)
    result = command.here("validate", "b")
    assert (result.code, result.out) == (1, "")
    assert "qemu.d/b/start/begin: users other than its owner may write to it" in result.err


def test_what_nothing_uses_is_not_all_right(command: Command) -> None:
    command.manage("win11").rename(command.hooks / "qemu.d/win11/vm.tmol")
    (command.hooks / "qemu.d/win10.toml").touch()
    result = command.here("validate")
    assert (result.code, result.out) == (1, "")
    assert [line.partition("; ")[0] for line in result.err.splitlines()] == [
        "vfio-hooks: HOOKS/qemu.d/win10.toml is in no VM's folder, so it is not read",
        "vfio-hooks: HOOKS/qemu.d/win11/vm.tmol is not read: the file's name is vm.toml",
    ]
    assert command.here("validate", "win11").err.count("\n") == 1
    (command.hooks / "vfio-hooks.toml").write_text('[check]\nsilence = ["file-unused"]\n')
    result = command.here("validate")
    assert (result.code, result.err) == (0, "")
    assert "nothing is done for this VM" in result.out


def test_what_only_looks_like_a_program_or_a_file(command: Command) -> None:
    """As from a file system that has no such bits; and a pipe is not waited for."""
    command.manage("win11")
    executable(command, "win11/gpu.rom")
    (command.hooks / "qemu.d/win11/gpu.rom").write_bytes(b"\x55\xaa")
    executable(command, "win11/idle")
    os.mkfifo(command.hooks / "qemu.d/win11/pipe", 0o755)
    result = command.here("validate", "win11")
    assert result.err.count("\n") == 1 and "/idle" in result.err


def test_a_vm_that_is_not_managed(command: Command) -> None:
    command.manage("win11")
    result = command.here("validate", "win1")
    assert (result.code, result.err) == (
        1,
        "vfio-hooks: win1 is not managed: there is no folder HOOKS/qemu.d/win1; did you mean "
        "win11?\n",
    )


def test_no_vm_is_managed(command: Command) -> None:
    assert command.here("validate", "a").err.endswith("; vfio-hooks init writes a vm.toml there\n")
    said = "no VM is managed: there is no folder in HOOKS/qemu.d\n"
    assert command("validate", "--config-dir", f"{command.hooks}/").out == said
    assert command.here("validate").out == said
    (command.hooks / "qemu.d").rmdir()
    result = command.here("validate")
    assert (result.code, result.out) == (0, said)


def test_a_folder_that_is_not_there_is_a_failure(command: Command) -> None:
    result = command("validate", "--config-dir", str(command.hooks / "x"))
    assert (result.code, result.err) == (
        1,
        "vfio-hooks: HOOKS/x: there is no such folder; "
        "install.sh makes it; --config-dir names another folder\n",
    )


@needs_root
@pytest.mark.parametrize(("private", "mode"), [("win11", 0o700), ("win11/vm.toml", 0o600)])
def test_what_a_user_may_not_read_is_no_empty_file(private: str, mode: int) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        own = Path(folder) / "qemu.d/win11"
        own.mkdir(parents=True)
        (own / "vm.toml").write_text("[pci]\n")
        Path(folder).chmod(0o755)
        (own.parent / private).chmod(mode)
        done = as_nobody("validate", f"--config-dir={folder}")
        why = f"{own}/vm.toml: cannot be read: Permission denied; try again with sudo"
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"vfio-hooks: {why}\n"
