"""What all verbs of the command have in common: help, exit codes, and how failures are told."""

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.command import Command
from tests.hosttree import domain_xml
from vfio_hooks import __version__
from vfio_hooks.cli.common import add_paths, paths
from vfio_hooks.config import Config, usable
from vfio_hooks.errors import HookError

pytestmark = pytest.mark.real_processes
ROOT = Path(__file__).resolve().parents[1]
VERBS = (
    *("plan", "check", "status", "undo", "validate", "verify", "log", "hook"),
    *("completion", "manual", "install", "boot"),
)


# Whoever runs the tests may have it unbuffered; people do not.
ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": ""}


def process(
    *argv: str, stderr: int = subprocess.PIPE, **variables: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "vfio_hooks", *argv],
        cwd=ROOT,
        env={**ENVIRONMENT, **variables},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def test_help_names_every_verb_and_gives_examples(command: Command) -> None:
    result = command("--help")
    assert result.code == 0
    for verb in VERBS:
        # A long name has a line of its own.
        assert re.search(rf"\n    {verb}\s", result.out), verb
    assert "examples:" in result.out


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_gives_examples(command: Command, verb: str) -> None:
    result = command(verb, "--help")
    assert (result.code, result.err) == (0, "")
    assert "\nexamples:\n" in result.out
    assert all(len(line) <= 100 for line in result.out.splitlines())


@pytest.mark.parametrize("root", ["/no/such/folder", "HOOKS", "HOOKS/empty.tar"])
@pytest.mark.parametrize(
    "argv",
    [
        *(["check"], ["status"], ["undo", "--all"], ["iommu"], ["topology"], ["init", "win11"]),
        *(["plan", "win11"], ["verify", "win11"], ["snapshot", "HOOKS/new.tar"]),
        ["hook", "win11", "prepare", "begin", "-"],
    ],
)
def test_what_is_no_host_is_told(command: Command, root: str, argv: list[str]) -> None:
    command.manage("win11")
    with tarfile.open(command.hooks / "empty.tar", "w") as tar:
        tar.add(command.hooks / "qemu.d", "qemu.d")
    root, *argv = (word.replace("HOOKS", str(command.hooks)) for word in (root, *argv))
    result = command(*argv, "--root", root)
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    name = root.replace(str(command.hooks), "HOOKS")
    assert result.err.startswith(
        f"vfio-hooks: {name} is not a host: its /sys is empty or missing; "
    )
    assert "a file of vfio-hooks snapshot" in result.err


def test_version(command: Command) -> None:
    assert command("--version").out == f"vfio-hooks {__version__}\n"


def test_help_is_a_verb_to_people(command: Command) -> None:
    whole = command("--help").out
    assert command("help").out == whole
    assert command("help", "plan").out == command("plan", "--help").out
    bare = command()
    assert (bare.code, bare.out, bare.err) == (2, "", whole)


def test_help_of_plan_names_what_may_be_used(command: Command) -> None:
    text = command("plan", "--help").out
    named = re.search(r"--use takes tables that may be empty: ([\w,\s]+)\.", text)
    assert named

    names = re.split(r",\s+", named[1])
    assert names == list(usable())
    assert [table.name for table in Config.use(names).tables] == names
    with pytest.raises(HookError) as raised:
        Config.use(["nosuch"])
    assert raised.value.hint == f"allowed: {', '.join(sorted(names))}"


@pytest.mark.parametrize(
    ("man", "shown"),
    [
        ("echo $*; sed -n 2p", "-l -\r\n.TH VFIO-HOOKS"),
        ("exit 16", '.\\" Made'),
        (None, '.\\" Made'),
    ],
)
def test_a_page_on_a_terminal_is_shown_by_man(tmp_path: Path, man: str | None, shown: str) -> None:
    if man:
        (tmp_path / "man").write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{man}\n")
        (tmp_path / "man").chmod(0o755)
    assert terminal("manual", PATH=str(tmp_path)).startswith(shown)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["paln"],
        ["plan", "a", "b"],
        ["plan", "--jso"],
        ["--versio"],
        ["undo"],
        ["undo", "a", "--all"],
        ["validate", "a", "--all"],
        ["hook", "win11", "prepare"],
    ],
)
def test_wrong_usage_is_2_and_explained(command: Command, argv: list[str]) -> None:
    result = command(*argv)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("usage: vfio-hooks")


@pytest.mark.parametrize("argv", [[], *[[verb] for verb in VERBS]])
def test_help_imports_no_library_and_no_other_verb(argv: list[str]) -> None:
    program = (
        "import sys; from vfio_hooks.cli import main\n"
        f"try: main({[*argv, '--help']!r})\n"
        "finally: sys.stderr.write(' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    modules = set(done.stderr.split())
    assert done.returncode == 0
    assert not modules & {"lxml", "libvirt", "sh"}
    assert {verb for verb in VERBS if f"vfio_hooks.cli.{verb}" in modules} == set(argv or VERBS)


def test_the_module_is_the_command() -> None:
    done = process("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"vfio-hooks {__version__}\n", "")


def test_an_error_of_the_system_is_one_line(command: Command) -> None:
    command.state.touch()
    result = command.here("status")
    assert (result.code, result.out, result.err) == (1, "", "vfio-hooks: STATE: Not a directory\n")


def defect(command: Command) -> list[str]:
    """Arguments that make a plugin fail with an unexpected exception."""
    link = command.host / "sys/bus/pci/devices/0000:04:00.0/iommu_group"
    link.unlink()
    link.symlink_to("../../no-number")
    xml = command.host / "win11.xml"
    xml.write_text(domain_xml())
    return ["--xml", str(xml), "--use", "pci", "--root", str(command.host)]


def test_a_defect_is_one_line_too(command: Command) -> None:
    done = process("plan", *defect(command), VFIO_HOOKS_DEBUG="")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "vfio-hooks: ValueError: invalid literal for int() with base 10: 'no-number' "
        "(a defect; set VFIO_HOOKS_DEBUG=1 to see where)\n"
    )


def test_a_defect_is_told_whole_to_who_wants_that(command: Command) -> None:
    done = process("plan", *defect(command), VFIO_HOOKS_DEBUG="1")
    assert done.returncode == 1
    assert done.stderr.startswith("vfio-hooks: ValueError: ")
    assert "Traceback (most recent call last)" in done.stderr


@pytest.mark.parametrize("argv", ["--version", "plan --help", "status --json"])
def test_a_closed_pipe_is_no_traceback(argv: str) -> None:
    command = f"(sleep 0.2; exec {sys.executable} -m vfio_hooks {argv}) | true; echo $PIPESTATUS"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.parametrize(
    ("argv", "where", "code", "said"),
    [
        ("status", ">&-", 0, ""),
        ("--help", ">&-", 0, ""),
        ("status nosuch >&- 2>&-", "", 0, ""),
        ("undo", ">&- 2>&- <&-", 2, ""),
        ("status", ">/dev/full", 1, "vfio-hooks: standard output: No space left on device\n"),
        ("--help", ">/dev/full", 1, "vfio-hooks: standard output: No space left on device\n"),
    ],
)
def test_a_closed_or_full_stream_is_no_traceback(
    argv: str, where: str, code: int, said: str
) -> None:
    done = subprocess.run(
        ["bash", "-c", f"exec {sys.executable} -m vfio_hooks {argv} {where}"],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)


def test_an_unknown_option_is_told_with_the_usage_of_its_verb(command: Command) -> None:
    result = command("validate", "--root", "/x")
    assert result.code == 2
    assert result.err.startswith("usage: vfio-hooks validate ")
    assert result.err.endswith("validate: error: unrecognized arguments: --root\n")
    assert command("--nosuch").err.startswith("usage: vfio-hooks [-h]")


def test_a_locale_without_arrows_is_no_failure(command: Command) -> None:
    xml = command.host / "win11.xml"
    xml.write_text(domain_xml(managed="no"))
    argv = ["plan", "--xml", str(xml), "--use", "pci", "--root", str(command.host)]
    done = process(*argv, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "amdgpu ? vfio-pci" in done.stdout


def terminal(*argv: str, **variables: str) -> str:
    """What a verb prints on a terminal."""
    main_end, other_end = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "vfio_hooks", *argv],
        cwd=ROOT,
        env={**ENVIRONMENT, "TERM": "xterm", **variables},
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
    )
    os.close(other_end)
    text = b""
    # Linux ends it with an error: everybody has closed the other end.
    with process, contextlib.suppress(OSError):
        while part := os.read(main_end, 65536):
            text += part
    os.close(main_end)
    return text.decode()


def test_colour_is_for_terminals(command: Command) -> None:
    command.manage("win11", "[pci]\n")
    argv = ["validate", "--config-dir", str(command.hooks)]
    assert terminal(*argv, NO_COLOR="") == "\x1b[32mOK\x1b[m  qemu.d/win11: [pci]\r\n"
    assert terminal(*argv, NO_COLOR="1") == "OK  qemu.d/win11: [pci]\r\n"
    assert terminal(*argv, NO_COLOR="", TERM="dumb") == "OK  qemu.d/win11: [pci]\r\n"
    assert process(*argv, NO_COLOR="").stdout == "OK  qemu.d/win11: [pci]\n"
    command.manage("win11", "[")
    assert terminal(*argv, NO_COLOR="").startswith("\x1b[31mvfio-hooks: ")


@pytest.mark.parametrize(("columns", "widest"), [("60", 60), ("300", 100), ("7", 40)])
def test_paragraphs_have_the_terminals_width(tmp_path: Path, columns: str, widest: int) -> None:
    said = tmp_path / "said"
    said.write_text(
        "vfio: Cannot reset device 0000:03:00.0, depends on group 14 which is not owned\n"
    )
    lines = terminal("why", "--file", str(said), NO_COLOR="1", COLUMNS=columns).splitlines()
    paragraph = [line for line in lines if line.startswith("  ")]
    assert widest - 20 < max(map(len, paragraph)) <= widest
    in_a_file = process("why", "--file", str(said), COLUMNS="60").stdout.splitlines()
    assert max(len(line) for line in in_a_file if line.startswith("  ")) > 80


def test_a_terminal_is_not_waited_for_as_if_it_were_a_file() -> None:
    said = (
        "vfio-hooks: the domain's XML is read from standard input, which is a terminal; add: "
        "< domain.xml\r\n"
    )
    assert terminal("plan", "--xml", "-", NO_COLOR="1") == said


def test_the_failure_comes_last_where_both_streams_are_one(command: Command) -> None:
    command.manage("a", "[")
    command.manage("b")
    done = process("validate", "--config-dir", str(command.hooks), stderr=subprocess.STDOUT)
    first, last = done.stdout.splitlines()
    assert first == "OK  qemu.d/b: [pci]"
    assert last.startswith("vfio-hooks: ")


def test_libvirts_library_prints_nothing_itself() -> None:
    pytest.importorskip("libvirt")
    done = process("plan", "--connect", "test:///no/such/file", "a")
    assert (done.returncode, done.stdout) == (1, "")
    assert [line.split()[0] for line in done.stderr.splitlines()][-1:] == ["vfio-hooks:"]
    assert "libvirt: " not in done.stderr


ODD = "\x1b[2Jwin11"


@pytest.mark.parametrize(
    "argv",
    [
        ["undo", ODD],
        ["validate", ODD],
        ["status", ODD],
        ["hook", ODD, "prepare", "begin", "-", "--dry-run"],
        ["hook", "a", ODD, "begin", "-", "--dry-run"],
    ],
)
def test_names_cannot_command_the_terminal(command: Command, argv: list[str]) -> None:
    command.manage("a")
    result = command.here(*argv)
    assert "\\x1b[2Jwin11" in result.out + result.err
    assert "\x1b" not in result.out + result.err


def test_nor_can_what_is_logged(command: Command) -> None:
    command.manage("\u202ewin11")
    result = command.here("hook", "\u202ewin11", "prepare", "begin", "-", stdin=domain_xml())
    assert (result.code, result.out.splitlines()[0]) == (0, "\\u202ewin11: prepare")


def test_another_host_has_folders_of_its_own(tmp_path: Path) -> None:
    """An undo on a tree once emptied this machine's journal."""
    (tmp_path / "sys/devices").mkdir(parents=True)
    options = argparse.ArgumentParser()
    add_paths(options, "root", "config-dir", "state-dir")
    own = paths(options.parse_args([]))
    assert (own.config, own.state) == ("/etc/libvirt/hooks", "/run/vfio-hooks")
    found = paths(options.parse_args([f"--root={tmp_path}"]))
    assert (found.config, found.state) == (
        f"{tmp_path}/etc/libvirt/hooks",
        f"{tmp_path}/run/vfio-hooks",
    )
    # Also where it is named, and not just the default.
    named = paths(options.parse_args([f"--root={tmp_path}", "--config-dir=/etc/libvirt/hooks"]))
    assert named.config == "/etc/libvirt/hooks"
    chosen = paths(options.parse_args([f"--root={tmp_path}", "--config-dir=/x", "--state-dir=/y"]))
    assert (chosen.config, chosen.state) == ("/x", "/y")
