"""vfio-hooks completion: each script in its shell, which is asked what it offers."""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import Command
from vfio_hooks.cli import metavars, parser, tree
from vfio_hooks.cli.completion import SHELLS
from vfio_hooks.plugins import BUILT_IN
from vfio_hooks.wait import until

pytestmark = pytest.mark.real_processes
_, VERBS = tree.read(parser())
UUID = "6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c1"
OFFERED: list[tuple[str, set[str]]] = [
    ("", {verb.name for verb in VERBS}),
    ("pl", {"plan"}),
    ("nothing ", set()),
    ("plan ", {"win11", "my vm", "it's"}),
    ("plan w", {"win11"}),
    ("plan g", set()),
    ("undo g", {"gone"}),
    ("status ", {"win11", "my vm", "it's", "gone"}),
    ("log w", {"win11"}),
    ("plan --root /tmp w", {"win11"}),
    ("plan --root=/tmp w", {"win11"}),
    ("plan win11 --conf", {"--config-dir"}),
    ("plan --use ", set(BUILT_IN) - {"service", "write", "process"}),
    ("plan --use pc", {"pci"}),
    ("plan --use=pc", {"pci"}),
    ("plan --use pci,hu", {"hugepages"}),
    ("plan --xml FOLDER/xm", {"xml file"}),
    ("plan --root FOLDER/xm", {"xml file"}),
    ("plan --root FOLDER/hoo", {"hooks"}),
    ("validate --config-dir FOLDER/hoo", {"hooks"}),
    ("plan --connect w", set()),
    ("hook win11 st", {"start", "started", "stopped"}),
    ("hook win11 start b", {"begin"}),
    ("hook --root /tmp win11 start e", {"end"}),
    ("completion f", {"fish"}),
    *(
        (
            f"{verb.name} --",
            {flag for one in verb.options for flag in one.flags if flag.startswith("--")},
        )
        for verb in VERBS
    ),
]


class Shell:
    """A folder with VMs, and the scripts for it."""

    def __init__(self, folder: Path, command: Command) -> None:
        self.folder = folder
        self.scripts = {}
        for vm in ("win11", "my vm", "it's"):
            (folder / "hooks/qemu.d" / vm).mkdir(parents=True)
        (folder / "hooks/qemu.d/notes.txt").touch()
        (folder / "xml file").touch()
        (folder / "state").mkdir()
        record = '{"record":"begin","event":"prepare","vm":"NAME","number":1}\n'
        for number, vm in enumerate(("win11", "gone", 'odd\\"')):
            journal = folder / f"state/{UUID}{number}.journal"
            journal.write_text(record.replace("NAME", vm))
        for shell in SHELLS:
            places = ("--config-dir", str(folder / "hooks"), "--state-dir", str(folder / "state"))
            result = command("completion", shell, *places)
            assert (result.code, result.err) == (0, "")
            self.scripts[shell] = folder / shell
            self.scripts[shell].write_text(result.out)

    def offers(self, shell: str, typed: str) -> set[str]:
        """What is offered at the end of what was typed, without the part before it."""
        found = getattr(self, shell)(f"vfio-hooks {typed.replace('FOLDER', str(self.folder))}")
        names = set()
        for line in found:
            name = re.sub(r"\\(.)", r"\1", line.partition("\t")[0]).rstrip("/")
            name = name.rpartition(",")[2].rpartition("/")[2]
            # zsh says by a "=" that a value follows.
            name = name.removesuffix("=").rpartition("=")[2]
            names.add(name)
        return names - {""}

    def run(self, *argv: str) -> str:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C.UTF-8"},
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def bash(self, line: str) -> list[str]:
        words = re.findall(r"=|[^ =]+", line) + ([""] if line.endswith(" ") else [])
        text = (
            f"source {self.scripts['bash']}; COMP_WORDS=({shlex.join(words)}); "
            f'COMP_CWORD={len(words) - 1}; _vfio_hooks; printf "%s\\n" "${{COMPREPLY[@]}}"'
        )
        return self.run("bash", "--norc", "-uc", text).splitlines()

    def fish(self, line: str) -> list[str]:
        text = f"source {self.scripts['fish']}; complete -C {shlex.quote(line)}"
        return self.run("fish", "--no-config", "-c", text).splitlines()

    def zsh(self, line: str) -> list[str]:
        """What is given to zsh's compadd when the tab key is pressed."""
        out = self.folder / "offered"
        out.write_text("")
        (self.folder / ".zshrc").write_text(ZSH.format(script=self.scripts["zsh"], out=out))
        main_end, other_end = os.openpty()
        process = subprocess.Popen(
            ["zsh", "-d", "-i"],
            stdin=other_end,
            stdout=other_end,
            stderr=other_end,
            start_new_session=True,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C.UTF-8"},
        )
        os.set_blocking(main_end, False)

        def said(text: str) -> bool:
            # What it prints has to be taken, or it would wait.
            with contextlib.suppress(BlockingIOError):
                os.read(main_end, 65536)
            return text in out.read_text().splitlines()

        try:
            # Keys that come before zsh reads them itself would go to the terminal's line editor.
            assert until(lambda: said("READY"), 60)
            os.write(main_end, f"{line}\t\x15print DONE >> {out}\n".encode())
            assert until(lambda: said("DONE"), 60), out.read_text()
        finally:
            process.kill()
            process.wait()
            os.close(main_end)
            os.close(other_end)
        lines = out.read_text().splitlines()
        return lines[lines.index("READY") + 1 : lines.index("DONE")]


# zsh looks through a thousand files once, and then at what it has dumped of them.
ZSH = """
autoload -U compinit && compinit -u -C -d {out}.dump
source {script}
zle-line-init() {{ print READY >> {out} }}
zle -N zle-line-init
compadd() {{
    # A call that only fills arrays offers nothing.
    if [[ ${{@[1,(i)(-|--)]}} == *-(O|A|D)\\ * ]]; then
        builtin compadd "$@"
        return
    fi
    local -a hits
    builtin compadd -A hits "$@"
    (( $#hits )) && print -l -- $hits >> {out}
    builtin compadd "$@"
}}
"""


@pytest.fixture
def shell(tmp_path: Path, command: Command) -> Shell:
    folder = tmp_path / "shell"
    folder.mkdir()
    return Shell(folder, command)


@pytest.mark.parametrize("name", SHELLS)
def test_what_is_offered(shell: Shell, name: str) -> None:
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    told = {typed: shell.offers(name, typed) for typed, _ in OFFERED}
    assert told == dict(OFFERED)


def test_bash_quotes_what_it_has_to(shell: Shell) -> None:
    assert shell.bash("vfio-hooks plan my") == ["my\\ vm"]
    assert shell.bash("vfio-hooks plan --use pci,hu") == ["pci,hugepages"]


def test_bash_finds_its_script_in_order(shell: Shell) -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    assert shell.run("shellcheck", "--shell=bash", str(shell.scripts["bash"])) == ""


@pytest.mark.parametrize("name", SHELLS)
def test_it_needs_no_library(name: str) -> None:
    program = (
        "import sys; from vfio_hooks.cli import main\n"
        f"main(['completion', {name!r}])\n"
        "sys.stderr.write(' '.join(m for m in sys.modules if m in ('lxml', 'libvirt', 'sh')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "/etc/libvirt/hooks'/qemu.d/" in done.stdout


def test_a_shell_that_is_none(command: Command) -> None:
    assert command("completion", "tcsh").code == 2


def test_what_a_value_is_does_not_depend_on_its_name() -> None:
    known = {
        name: text for name, text in vars(metavars).items() if isinstance(text, metavars.Value)
    }
    guessed = [
        f"{verb.name} {argument.name}"
        for verb in VERBS
        for argument in (*verb.options, *verb.positionals)
        if argument.name in known.values() and argument.kind == "any"
    ]
    assert known
    assert not guessed
