"""The manual pages: whole, true, and as man reads them."""

import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from manual.keys import describe_keys, texts
from manual.make import source
from manual.roff import Page
from tests.command import Command
from tests.hosttree import gpu_host
from vfio_hooks import ENDING, PLANNED, plugins
from vfio_hooks.check.options import Options as Silence
from vfio_hooks.cli import parser, tree
from vfio_hooks.cli.manual import FOLDER, PAGES
from vfio_hooks.config import examine
from vfio_hooks.config.options import keys
from vfio_hooks.config.tables import General
from vfio_hooks.domain import Domain
from vfio_hooks.event import Event
from vfio_hooks.host import Host, shared_memory
from vfio_hooks.knobs import KINDS
from vfio_hooks.knobs.file import File
from vfio_hooks.plugins import own
from vfio_hooks.record import field, record
from vfio_hooks.sharing import Override
from vfio_hooks.steps import Step

pytestmark = pytest.mark.real_processes
_, VERBS = tree.read(parser())
OPTIONS = {name: plugins.load(name).Options for name in plugins.BUILT_IN}
ESCAPES = (
    ("\\-", "-"),
    ("\\(aq", "'"),
    ("\\(dq", '"'),
    ("\\(ga", "`"),
    ("\\(ti", "~"),
    ("\\(ha", "^"),
    ("\\(rs", "\\"),
)
HARD = [
    ".SH of a line",
    "'br",
    "  .br",
    "\\n(.l \\fBx\\fR",
    'a-b --long "quoted" `tick` ~^ it\'s',
    "→ ä",
    "#$%&*()[]{}<>|/;:,?!@_=+",
]


def page(name: str) -> str:
    """A finished page, by the name of its file."""
    return (FOLDER / name).read_text()


def plain(name: str) -> str:
    """A page's text without roff's escapes."""
    text = re.sub(r"\\f[BR]|\\&", "", page(name))
    for escape, character in ESCAPES:
        text = text.replace(escape, character)
    return text


def groff(text: str) -> str:
    """What groff makes of it, without any complaint."""
    if not shutil.which("groff"):
        pytest.skip("groff is not installed")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-P-cbou"],
        input=text,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", PAGES)
def test_man_reads_it_without_complaint(name: str) -> None:
    text = page(name)
    title, _, section = name.rpartition(".")
    assert text.isascii()
    assert re.match(rf'\.\\".*\n\.TH {title.upper()} {section} ', text)
    assert "NAME" in groff(text)


@pytest.mark.parametrize("name", PAGES)
def test_man_shows_it(name: str) -> None:
    if not shutil.which("man"):
        pytest.skip("man is not installed")
    done = subprocess.run(
        ["man", "--warnings=w", "-l", str(FOLDER / name)],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "PAGER": "cat"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "SEE ALSO" in done.stdout


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_with_its_options_and_examples(verb: tree.Verb) -> None:
    text = plain("vfio-hooks.1")
    _, _, rest = text.partition(f"\n.SS {verb.name}\n")
    section = re.split(r"\n\.S[SH] ", rest)[0]
    assert all(flag in section for option in verb.options for flag in option.flags)
    assert all(f"\n{one.name}\n" in section for one in verb.positionals)
    examples = verb.epilog.partition("examples:\n")[2].splitlines()
    assert examples
    assert all(line in section.splitlines() for line in examples)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_table_with_its_keys(name: str) -> None:
    _, _, rest = plain("vfio-hooks.toml.5").partition("\n.SH TABLES\n")
    _, _, rest = re.sub(r"\.SS \[+(\w+)\]+", r".SS \1", rest).partition(f"\n.SS {name}\n")
    section = re.split(r"\n\.S[SH] ", rest)[0]
    for key in keys(OPTIONS[name]):
        assert re.search(
            rf"\n\.TP\n{key} \(.+; (default: .+|not set .+|must be given)\)\n", section
        ), key
    assert "default: a table" not in section


@pytest.mark.parametrize(
    "options", [General, Silence, *OPTIONS.values()], ids=lambda one: one.__module__
)
def test_every_key_is_explained_by_sentences_of_its_own(options: type[object]) -> None:
    told = texts(options)
    assert list(told) == list(keys(options))
    for name, text in told.items():
        assert re.match(r"[A-Z]", text) and text.endswith("."), name
        # The tag says already what the sentence is about.
        assert not text.startswith((f"`{name}`", f"{name} is", f"The {name} is a {name}")), name


@record
class Sample:
    """Nothing of this is about a key."""

    first: int
    """The first.

    In two paragraphs."""
    second: dict[str, str] = field(default_factory=dict)
    third: tuple[str, ...] = ("a",)
    """The third."""

    def method(self) -> None:
        """Nor is this."""


def test_a_keys_text_is_the_string_behind_it() -> None:
    assert texts(Sample) == {"first": "The first.\n\nIn two paragraphs.", "third": "The third."}
    page = Page("x", 1, "x", "x")
    describe_keys(page, Sample)
    told = str(page)
    assert "first\\fR (a whole number; must be given)\nThe first.\n.IP\nIn two para" in told
    assert "second\\fR (a table of strings; default: {})" in told
    assert "third\\fR (a list of strings; default: [\\(dqa\\(dq])" in told


def test_what_a_module_may_use_is_there() -> None:
    text = plain("vfio-hooks.toml.5")
    knobs = [place.partition(".")[2] for place in KINDS.values()]
    for word in (*knobs, "Subtract(", "cpulist.parse_list("):
        assert word in text
    assert "host.exists(name)" in text


def test_every_event_has_its_folder() -> None:
    text = plain("vfio-hooks.toml.5")
    for op in PLANNED:
        assert f"{op}/begin" in text
    for op in ENDING:
        assert f"{op}/end" in text


def examples(name: str, section: str) -> list[str]:
    """The indented texts below a heading of a page's file."""
    blocks = source(name)
    blocks = blocks[blocks.index(f"## {section}") :]
    return [textwrap.dedent(block) for block in blocks if block.startswith("    ")]


def test_the_module_of_the_example_works(tmp_path: Path) -> None:
    (tmp_path / "sound.py").write_text(examples("vfio-hooks.toml.5", "MODULES")[0])
    tmp_path.chmod(0o755)
    (tmp_path / "sound.py").chmod(0o644)
    module = own.load(str(tmp_path), "sound")
    root = gpu_host(tmp_path / "host")
    file = root / "sys/module/snd_hda_intel/parameters/power_save"
    domain = Domain("win11", "")
    options = module.Options(seconds=3)
    assert list(module.plan(Event("win11", "prepare"), domain, options, Host(str(root)))) == []
    file.parent.mkdir(parents=True)
    file.write_text("1\n")
    path = f"/{file.relative_to(root)}"
    assert list(module.plan(Event("win11", "prepare"), domain, options, Host(str(root)))) == [
        Step("sound", File(path), Override("3"))
    ]
    assert list(texts(module.Options)) == ["seconds"]


def test_a_module_finds_what_was_called_otherwise(tmp_path: Path) -> None:
    old = "from vfio_hooks.host import shared\nfrom vfio_hooks.host.shared import look\n"
    (tmp_path / "old.py").write_text(f"{old}def plan(*_): return ()\n")
    tmp_path.chmod(0o755)
    (tmp_path / "old.py").chmod(0o644)
    module = own.load(str(tmp_path), "old").module
    assert module.look is module.shared.look is shared_memory.look


def test_the_files_of_the_examples_are_right(tmp_path: Path) -> None:
    own_file, host_file = examples("vfio-hooks.toml.5", "EXAMPLES")
    folder = tmp_path / "qemu.d/win11"
    folder.mkdir(parents=True)
    (folder / "vm.toml").write_text(own_file)
    (tmp_path / "vfio-hooks.toml").write_text(host_file)
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    config, problems = examine(str(tmp_path), "win11")
    assert problems == []
    assert config and config.general.script_timeout == 60


@pytest.mark.parametrize("text", HARD)
def test_text_is_shown_as_it_is(text: str) -> None:
    made = Page("x", 1, "x", "x")
    made.example("  first\n" + text)
    made.item([text], f"{text}. {text}")
    lines = [line.strip() for line in groff(str(made)).splitlines()]
    # In prose backticks make bold, and a row of blanks is one.
    prose = " ".join(text.split()).replace("`", "")
    assert text.strip() in lines
    assert prose in lines
    assert f"{prose}. {prose}" in " ".join(" ".join(lines).split())


def test_the_command_prints_them(command: Command) -> None:
    assert command("manual").out == page("vfio-hooks.1")
    assert command("manual", "vfio-hooks.toml").out == page("vfio-hooks.toml.5")
    assert command("manual", "nothing").code == 2
