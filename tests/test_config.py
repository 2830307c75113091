"""The two TOML files of a VM: what they give, and every way in which they can be wrong."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfio_hooks.config import Config, examine, examine_defaults, home, load
from vfio_hooks.config.tables import Catalogue, General
from vfio_hooks.errors import HookError
from vfio_hooks.plugins import Plugin, pci
from vfio_hooks.record import replace


@dataclass(frozen=True)
class Display:
    user: str
    primary: str
    off: tuple[str, ...] = ()
    seconds: float = 5.0
    head: int | Literal["auto"] = "auto"
    wait: bool = False
    note: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= 60:
            raise ValueError("seconds must be between 0 and 60")
        if self.primary in self.off:
            raise ValueError("the primary output cannot be off")


@dataclass(frozen=True)
class Sriov:
    pf: str
    vf: int
    vlan: int | None = None
    queues: tuple[int, ...] = ()


PLUGINS = {
    "pci": pci,
    "sriov": SimpleNamespace(Options=Sriov, plan=lambda *_: (), MULTIPLE=True),
    "display": SimpleNamespace(Options=Display, plan=lambda *_: ()),
}
CATALOGUE = Catalogue(tuple(PLUGINS), lambda name: cast(Plugin, PLUGINS[name]))


def write(folder: Path, own: str | bytes | None, host: str | bytes | None = None) -> None:
    """A hooks folder with one VM, win10."""
    own_folder = folder / "qemu.d/win10"
    own_folder.mkdir(parents=True, exist_ok=True)
    for path, text in ((own_folder / "vm.toml", own), (folder / "vfio-hooks.toml", host)):
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_bytes(text if isinstance(text, bytes) else text.encode())


def options(folder: Path, own: str, host: str | None = None) -> list[Any]:
    write(folder, own, host)
    config = load(str(folder), "win10", CATALOGUE)
    assert config is not None
    return [table.options for table in config.tables]


def problems(folder: Path, own: str | bytes | None, host: str | bytes | None = None) -> list[str]:
    """What is wrong, without the folder's name."""
    write(folder, own, host)
    _, found = examine(str(folder), "win10", CATALOGUE)
    for error in found:
        assert "\n" not in str(error)
    return [str(error).replace(f"{folder}/", "") for error in found]


def test_a_vm_without_a_folder_is_not_managed(tmp_path: Path) -> None:
    assert load(str(tmp_path), "win10", CATALOGUE) is None
    write(tmp_path, None)
    assert load(str(tmp_path), "win11", CATALOGUE) is None


def test_a_file_in_place_of_the_folder_is_libvirts_own_hook(tmp_path: Path) -> None:
    write(tmp_path, None)
    (tmp_path / "qemu.d/win11").touch()
    assert load(str(tmp_path), "win11", CATALOGUE) is None


def test_a_folder_without_a_file_is_managed_and_uses_nothing(tmp_path: Path) -> None:
    write(tmp_path, None)
    assert load(str(tmp_path), "win10", CATALOGUE) == Config()


def test_a_table_that_is_empty_switches_on_with_the_defaults(tmp_path: Path) -> None:
    assert options(tmp_path, "[pci]") == [pci.Options()]


def test_tables_come_in_the_plugins_order(tmp_path: Path) -> None:
    own = '[display]\nuser = "u"\nprimary = "p"\n[[sriov]]\npf = "b"\nvf = 0\n[pci]\n'
    write(tmp_path, own + '[[sriov]]\npf = "a"\nvf = 1\n')
    config = load(str(tmp_path), "win10", CATALOGUE)
    assert config
    assert [table.name for table in config.tables] == ["pci", "sriov", "sriov", "display"]
    assert [table.options.pf for table in config.tables[1:3]] == ["b", "a"]


def test_every_type_arrives(tmp_path: Path) -> None:
    own = """
        [display]
        user = "joe"
        primary = "HDMI-A-0"
        off = ["DP-2", "DP-3"]
        seconds = 7
        head = 2
        wait = true
        note = "n"
        [[sriov]]
        pf = "enp7s0f1"
        vf = 1
        queues = [1, 2]
    """
    sriov, display = options(tmp_path, own)
    assert display == Display("joe", "HDMI-A-0", ("DP-2", "DP-3"), 7.0, 2, True, "n")
    assert type(display.seconds) is float
    assert sriov == Sriov("enp7s0f1", 1, None, (1, 2))


def test_the_host_wide_file_gives_values_and_switches_nothing_on(tmp_path: Path) -> None:
    host = '[pci]\ntimeout = 9\n[display]\nuser = "joe"\nseconds = 3\n'
    assert options(tmp_path, "", host) == []
    assert options(tmp_path, '[display]\nprimary = "p"\nseconds = 4', host) == [
        Display("joe", "p", seconds=4.0)
    ]


def test_host_wide_values_go_to_each_of_several_tables(tmp_path: Path) -> None:
    own = "[[sriov]]\nvf = 1\n[[sriov]]\nvf = 2\nvlan = 7\n"
    assert options(tmp_path, own, '[sriov]\npf = "e"\nvlan = 69') == [
        Sriov("e", 1, 69),
        Sriov("e", 2, 7),
    ]


@pytest.mark.parametrize("name", ["dry_run", "strict_started"])
@pytest.mark.parametrize(
    ("own", "host", "result"),
    [
        (None, None, False),
        (None, "true", True),
        ("true", None, True),
        ("true", "false", True),
        ("false", "true", False),
    ],
)
def test_a_switch_of_the_vm_beats_that_of_the_host(
    tmp_path: Path, name: str, own: str | None, host: str | None, result: bool
) -> None:
    write(tmp_path, own and f"{name} = {own}", host and f"{name} = {host}")
    config = load(str(tmp_path), "win10", CATALOGUE)
    assert config == Config(general=replace(General(), **cast(Any, {name: result})))


SCREEN = '[display]\nuser = "u"\nprimary = "p"\n'
VM = "qemu.d/win10/vm.toml"

WRONG = {
    "unknown table": (
        "[pc1]\n",
        f"{VM}:1: unknown table [pc1]; did you mean pci? allowed: check, display, pci, sriov",
    ),
    "unknown table, far from any": (
        "\n\n[[zfs]]\n",
        f"{VM}:3: unknown table [zfs]; allowed: check, display, pci, sriov",
    ),
    "unknown key": (
        '[pci]\n# which driver\ndrivr = "vfio-pci"\n',
        f'{VM}:3: unknown key "drivr" in [pci]; did you mean driver? '
        "allowed: driver, expected, group, in_use, required, timeout",
    ),
    "unknown dotted key": (
        "\npci.drivr = 1\n",
        f'{VM}:2: unknown key "drivr" in [pci]; did you mean driver? '
        "allowed: driver, expected, group, in_use, required, timeout",
    ),
    "key in upper case": (
        "[pci]\nTIMEOUT = 1\n",
        f'{VM}:2: unknown key "TIMEOUT" in [pci]; did you mean timeout? '
        "allowed: driver, expected, group, in_use, required, timeout",
    ),
    "switch inside a table": (
        "[pci]\ndry_run = true\n",
        f'{VM}:2: unknown key "dry_run" in [pci]; it belongs before the first table',
    ),
    "unknown switch": (
        "dryrun = true\n",
        f'{VM}:1: unknown key "dryrun" outside of the tables; did you mean dry_run? '
        "allowed: dry_run, script_timeout, strict_started",
    ),
    "switch that is no bool": (
        "strict_started = 1\n",
        f"{VM}:1: strict_started must be true or false, not 1",
    ),
    "table that is a value": (
        "pci = true\n",
        f"{VM}:1: pci must be a table, [pci], not true",
    ),
    "tables that are values": (
        "sriov = [1]\n",
        f"{VM}:1: sriov must be a table, [sriov], not [1]",
    ),
    "array of tables where there can be one": (
        "[[pci]]\n[[pci]]\n",
        f"{VM}:1: there can be only one pci; write [pci]",
    ),
    "number in quotes": (
        '[pci]\ntimeout = "30"\n',
        f'{VM}:2: timeout in [pci] must be a number, not "30"',
    ),
    "bool for a number": (
        "[pci]\ntimeout = true\n",
        f"{VM}:2: timeout in [pci] must be a number, not true",
    ),
    "no finite number": (
        "[pci]\ntimeout = nan\n",
        f"{VM}:2: timeout in [pci] must be a number, not nan",
    ),
    "integer for a string": (
        "[pci]\ndriver = 3\n",
        f"{VM}:2: driver in [pci] must be a string, not 3",
    ),
    "NUL in a string": (
        '[pci]\ndriver = "a\\u0000"\n',
        f'{VM}:2: driver in [pci] must be a string, not "a\\u0000"',
    ),
    "not one of the choices": (
        '[pci]\ngroup = "eror"\n',
        f'{VM}:2: group in [pci] must be "error" or "bind", not "eror"; did you mean error?',
    ),
    "string for a list": (
        SCREEN + 'off = "DP-2"\n',
        f'{VM}:4: off in [display] must be a list of strings, not "DP-2"; write off = ["DP-2"]',
    ),
    "list with one wrong element, over several lines": (
        SCREEN + 'off = [\n  "a",\n  2,\n]\n',
        f'{VM}:4: off in [display] must be a list of strings, not ["a", 2]',
    ),
    "list of numbers for a string": (
        "[pci]\ndriver = [0, 1]\n",
        f'{VM}:2: driver in [pci] must be a string, not [0, 1]; write driver = "0,1"',
    ),
    "integer where only integers are": (
        '[[sriov]]\npf = "e"\nvf = 1.0\n',
        f"{VM}:3: vf in [sriov] must be a whole number, not 1.0",
    ),
    "bool in place of an integer of the second table": (
        '[[sriov]]\npf = "e"\nvf = 1\n[[sriov]]\npf = "e"\nvf = false\n',
        f"{VM}:6: vf in [sriov] must be a whole number, not false",
    ),
    "neither of two types": (
        SCREEN + 'head = "none"\n',
        f'{VM}:4: head in [display] must be a whole number or "auto", not "none"',
    ),
    "table for a string": (
        "[pci]\n[pci.driver]\n",
        f"{VM}:2: driver in [pci] must be a string, not a table",
    ),
    "date for a bool": (
        SCREEN + "wait = 2024-01-01\n",
        f"{VM}:4: wait in [display] must be true or false, not 2024-01-01",
    ),
    "missing keys": (
        "[display]\nseconds = 1\n",
        f"{VM}:1: [display] needs user, primary",
    ),
    "out of range, by the plugin": (
        SCREEN + "seconds = 61\n",
        f"{VM}:4: [display]: seconds must be between 0 and 60",
    ),
    "contradiction, by the plugin": (
        "\n" + SCREEN + 'off = ["p"]\n',
        f"{VM}:2: [display]: the primary output cannot be off",
    ),
    "value in a file from Windows": (
        b"\xef\xbb\xbf[pci]\r\n\r\ntimeout = '1'\r\n",
        f'{VM}:3: timeout in [pci] must be a number, not "1"',
    ),
    "no TOML": (
        "[pci]\ntimeout = \n",
        f"{VM}:2: not valid TOML: Invalid value (column 11): timeout =",
    ),
    "no TOML at the end": (
        "[pci",
        f"{VM}:1: not valid TOML: Expected ']' at the end of a table declaration (column 5): [pci",
    ),
    "no quotes": (
        "[pci]\ngroup = bind # all of it",
        f"{VM}:2: not valid TOML: Invalid value (column 9): group = bind # all of it; "
        'text needs quotes: group = "bind"',
    ),
    "no quotes, and it begins as a number": (
        "[display]\nuser = 046d:c52b\n",
        f"{VM}:2: not valid TOML: Expected newline or end of document after a statement (column "
        f"9): "
        'user = 046d:c52b; text needs quotes: user = "046d:c52b"',
    ),
    "one quote": (
        '[pci]\ngroup = "bind\n',
        f"{VM}:2: not valid TOML: Illegal character '\\n' (column 14): group = \"bind; a \" is "
        f"missing",
    ),
    "a backslash": (
        '[[service]]\nunit = "mnt-my\\x2ddisk.mount" # 2\n',
        f"{VM}:2: not valid TOML: Unescaped '\\' in a string (column 17): unit = "
        '"mnt-my\\x2ddisk.mount" # 2; text with a \\ needs single quotes: unit = '
        "'mnt-my\\x2ddisk.mount'",
    ),
    "a word processor's quotes": (
        "[display]\noff = [“DP-1”]\n",
        f"{VM}:2: not valid TOML: Invalid value (column 8): off = [“DP-1”]; "
        'quotes must be straight: off = ["DP-1"]',
    ),
    "a number with a unit, in a long line": (
        f"[pci]\ntimeout = 30s # {'x' * 99}\n",
        f"{VM}:2: not valid TOML: Expected newline or end of document after a statement (column "
        f"13): "
        f"timeout = 30s # {'x' * 44}…",
    ),
    "octal digits": (
        "[pci]\ngroup = 0660\n",
        f"{VM}:2: not valid TOML: Expected newline or end of document after a statement (column "
        f"10): "
        'group = 0660; write group = "0660"',
    ),
    "a table and a key on one line": (
        '[pci] group = "bind"\n',
        f"{VM}:1: not valid TOML: Expected newline or end of document after a statement (column "
        f"7): "
        '[pci] group = "bind"; [pci] must be on a line of its own',
    ),
    "a table without brackets": (
        "pci\n",
        f"{VM}:1: not valid TOML: Expected '=' after a key in a key/value pair (column 4): pci; "
        "write [pci]",
    ),
    "switch in English": (
        "dry_run = Yes\n",
        f"{VM}:1: not valid TOML: Invalid value (column 11): dry_run = Yes; write dry_run = true",
    ),
    "key that people look for": (
        '[pci]\ndevices = ["0000:04:00.0"]\n',
        f'{VM}:2: unknown key "devices" in [pci]; <hostdev> in the VM\'s XML names the devices: '
        "virt-manager, Add Hardware, PCI Host Device",
    ),
    "table twice": (
        "[pci]\n[pci]\n",
        f"{VM}:2: not valid TOML: [pci] is already there further up (column 5): [pci]",
    ),
    "key twice": (
        "[pci]\ntimeout = 1\ntimeout = 2\n",
        f"{VM}:3: not valid TOML: this key is already there further up (column 12): timeout = 2",
    ),
    "a number that no integer of TOML is": (
        f"[display]\nhead = {10**20}\n",
        f'{VM}:2: head in [display] must be a whole number or "auto", not {10**20}; it has too '
        "many digits",
    ),
    "no text": (
        b"[pci]\ndriver = '\xff'\n",
        f"{VM}:2: not UTF-8 text; save the file as UTF-8",
    ),
    "nested without end": ("a = " + "[" * 5000, f"{VM}: nested too deeply"),
}


@pytest.mark.parametrize(("own", "message"), WRONG.values(), ids=WRONG)
def test_one_clear_line_for(tmp_path: Path, own: str | bytes, message: str) -> None:
    assert problems(tmp_path, own) == [message]
    with pytest.raises(HookError) as raised:
        load(str(tmp_path), "win10", CATALOGUE)
    assert str(raised.value) == f"{tmp_path}/{message}"


WRONG_FOR_ALL = {
    "unused table": (
        "[pci]\ngroup = 1\n",
        'vfio-hooks.toml:2: group in [pci] must be "error" or "bind", not 1',
    ),
    "out of range although unused": (
        SCREEN + "seconds = 0\n",
        "vfio-hooks.toml:4: [display]: seconds must be between 0 and 60",
    ),
    "several tables": (
        "[[sriov]]\nvf = 1\n",
        "vfio-hooks.toml:1: sriov must be a single table of defaults, [sriov]",
    ),
    "switch": ("dry_run = 0", "vfio-hooks.toml:1: dry_run must be true or false, not 0"),
    "no TOML": ("=", "vfio-hooks.toml:1: not valid TOML: Invalid statement (column 1): ="),
}


@pytest.mark.parametrize(("host", "message"), WRONG_FOR_ALL.values(), ids=WRONG_FOR_ALL)
def test_the_host_wide_file_is_checked_whole(tmp_path: Path, host: str, message: str) -> None:
    assert problems(tmp_path, "[pci]\n", host) == [message]
    _, found = examine_defaults(str(tmp_path), CATALOGUE)
    assert [str(error) for error in found] == [f"{tmp_path}/{message}"]


def test_a_wrong_value_is_told_where_it_stands(tmp_path: Path) -> None:
    host = "[display]\nseconds = 90\n"
    own = '[display]\nuser = "u"\nprimary = "p"\n'
    assert problems(tmp_path, own, host) == [
        "vfio-hooks.toml:2: [display]: seconds must be between 0 and 60"
    ]
    assert problems(tmp_path, own + "seconds = 1", host) == []


def test_defaults_that_are_wrong_are_not_told_again_as_missing(tmp_path: Path) -> None:
    own = "[[sriov]]\nvf = 1\n[display]\n"
    assert problems(tmp_path, own, "[[sriov]]\n[display]\nuser = 1") == [
        "vfio-hooks.toml:1: sriov must be a single table of defaults, [sriov]",
        "vfio-hooks.toml:3: user in [display] must be a string, not 1",
    ]


def test_all_problems_of_both_files_are_found(tmp_path: Path) -> None:
    found = problems(tmp_path, "[pci]\ntimeout = 'x'\ngroup = 'y'\n[a]\n", "b = 1\n[display]\nx=1")
    assert [line.partition(": ")[0] for line in found] == [
        "vfio-hooks.toml:1",
        "vfio-hooks.toml:3",
        f"{VM}:4",
        f"{VM}:2",
        f"{VM}:3",
    ]


def test_what_is_wrong_with_right_keys_is_told_beside_wrong_ones(tmp_path: Path) -> None:
    wrong = f'{VM}:5: unknown key "sec" in [display]; did you mean seconds? allowed: '
    found = problems(tmp_path, SCREEN + "seconds = 61\nsec = 1\n")
    assert [line[: len(wrong)] for line in found] == [
        wrong,
        f"{VM}:4: [display]: seconds must be between 0 and 60",
    ]
    # What needs a key that may just be misspelled is no second problem.
    assert len(problems(tmp_path, SCREEN + 'off = "p"\n')) == 1
    assert len(problems(tmp_path, '[display]\nusr = "u"\nseconds = 61\n')) == 1


def test_what_is_not_a_plain_file_is_never_waited_for(tmp_path: Path) -> None:
    write(tmp_path, None)
    os.mkfifo(tmp_path / VM)
    assert [str(e) for e in examine(str(tmp_path), "win10", CATALOGUE)[1]] == [
        f"{tmp_path}/{VM}: not a file"
    ]


@pytest.mark.parametrize("vm", ["", ".", "..", "a/b", "../qemu.d/win10", "a\0b", "n" * 300])
def test_no_folder_can_have_these_names(tmp_path: Path, vm: str) -> None:
    write(tmp_path, None)
    assert home(str(tmp_path), vm) is None


@settings(max_examples=40)
@given(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=60))
def test_a_folder_has_the_name_of_its_vm_to_the_letter(vm: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if vm in (".", ".."):
            return
        own_folder = Path(folder) / "qemu.d" / vm
        own_folder.mkdir(parents=True)
        (own_folder / "vm.toml").write_text("[pci]\ntimeout = 1.5\n")
        config = load(folder, vm, CATALOGUE)
        assert config and config.tables[0].options == pci.Options(timeout=1.5)
        assert load(folder, vm + "x", CATALOGUE) is None


def test_use_is_a_config_of_empty_tables_in_the_plugins_order() -> None:
    only_pci = {"cpus": pci, "pci": pci}
    catalogue = Catalogue(tuple(only_pci), lambda name: only_pci[name])
    config = Config.use(["pci", "cpus", "pci"], catalogue)
    assert [table.name for table in config.tables] == ["cpus", "pci"]
    assert config.tables[0].options == pci.Options()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["pcie"], "no facility 'pcie'; did you mean pci?"),
        (["pci", "display"], "[display] cannot be empty; write a vm.toml with its user, primary"),
    ],
)
def test_use_refuses(names: list[str], message: str) -> None:
    with pytest.raises(HookError) as raised:
        Config.use(names, CATALOGUE)
    assert str(raised.value) == message
