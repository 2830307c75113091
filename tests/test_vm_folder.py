"""What a user drops into a VM's folder: executables as of VFIO-Tools, and plugin modules."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.hosttree import domain_xml, gpu_host
from tests.processes import has_ended
from tests.sealed import Result, Sealed, can_seal
from vfio_hooks.wait import until

pytestmark = [
    pytest.mark.real_processes,
    pytest.mark.skipif(not can_seal(), reason="needs root and mount namespaces"),
]
RECORD = """#!/bin/sh
printf '%s\\n' "$0" "$#" "$@" "$PWD" "$LC_ALL" >> /run/record
cat >> /run/record
echo this must not reach libvirt
"""
ODD_NAMES = ["my vm", "x$(touch PWN)", "-rf", ".dot", "Größe", "quote'\"", "a=b", "n" * 200, "*"]
ODD_NAMES += ["line\u2028end", "paragraph\u2029end", "next\u0085line", "{}", "b\\n", "null", "%s"]


@pytest.fixture
def sealed(memory: Path) -> Sealed:
    return Sealed(gpu_host(memory))


def script(path: Path, text: str = RECORD, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if text.startswith("→ "):
        path.symlink_to(text.removeprefix("→ "))
        return path
    path.write_text(text)
    path.chmod(mode)
    return path


def record(sealed: Sealed) -> list[str]:
    file = sealed.root / "run/record"
    return file.read_text().removesuffix("\n").split("\n") if file.exists() else []


@pytest.mark.parametrize("vm", ODD_NAMES)
def test_a_script_gets_what_libvirt_gives(sealed: Sealed, vm: str) -> None:
    path = script(sealed.manage(vm) / "prepare/begin/run.sh")
    result = sealed.hook(vm, "prepare", domain_xml("x"))
    assert (result.code, result.stdout, result.stderr) == (0, b"", "")
    there = "/" + str(path.relative_to(sealed.root))
    lines = record(sealed)
    assert lines[:8] == [there, "4", vm, "prepare", "begin", "-", "/", "C"]
    assert "\n".join(lines[8:]) + "\n" == domain_xml("x")


def test_in_the_order_of_their_names(sealed: Sealed) -> None:
    folder = sealed.manage("win11") / "stopped/end"
    for name in ("30", "10", "9", "B", "a", "20-x.sh"):
        script(folder / name, '#!/bin/sh\nbasename "$0" >> /run/record\n')
    script(folder / "no-x", mode=0o644)
    script(folder / "20-x.sh~")
    script(folder / ".hidden")
    assert sealed.hook("win11", "stopped", domain_xml()).code == 0
    assert record(sealed) == ["10", "20-x.sh", "30", "9", "B", "a"]


def test_a_file_in_place_of_the_folder(sealed: Sealed) -> None:
    script(sealed.manage("win11") / "release/end", "#!/bin/sh\necho ran >> /run/record\n")
    assert sealed.hook("win11", "release", domain_xml()).code == 0
    assert record(sealed) == ["ran"]


@pytest.mark.parametrize("op", ["migrate", "restore", "reconnect", "attach"])
def test_at_operations_that_are_nothing_to_the_plugins(sealed: Sealed, op: str) -> None:
    script(sealed.manage("win11") / op / "begin", RECORD + "exit 3\n")
    result = sealed.hook("win11", op, domain_xml())
    assert (result.code, result.stdout, result.stderr) == (0, b"", "")
    assert record(sealed)[3] == op


FAILURES = {
    "exit code": ("#!/bin/sh\nexit 3\n", "/one: exit code 3\n"),
    "signal": ("#!/bin/sh\nkill -9 $$\n", "/one: killed by SIGKILL"),
    "its last words": (
        "#!/bin/sh\necho no >&2\nprintf '\\033[31mno \\001such\\r\\n\\n' >&2\nexit 3\n",
        "/one: exit code 3: no such\n",
    ),
    "many words": ("#!/bin/sh\nprintf '%300s' x | tr ' ' y >&2\nexit 3\n", f"3: {'y' * 200}\n"),
    "words to /dev/stderr": (
        "#!/bin/sh\necho a >&2\necho b > /dev/stderr\nexit 3\n",
        "/one: exit code 3: b\n",
    ),
    "nothing but output": ("#!/bin/sh\necho out\nexit 3\n", "/one: exit code 3\n"),
    "no interpreter": (
        "#!/nowhere\n",
        "/one: exit code 127: its first line names the interpreter /nowhere, which does not "
        "exist; install it, or",
    ),
    "no interpreter by name": (
        "#!/usr/bin/env fisch\n",
        ": its first line names the interpreter fisch, which",
    ),
    "of Windows": (
        "#!/bin/sh\r\nexit 0\r\n",
        "/one: exit code 127: its lines end in CR and LF, as on Windows; sed -i 's/\\r$//' /etc/",
    ),
    "a byte order mark": ("\ufeff#!/bin/sh\nexit 3\n", ": exit code 3: it begins with a byte ord"),
    "a link to nowhere": (
        "→ ../gone",
        "/one: it is a link to ../gone, which does not exist; correct",
    ),
    "too slow": ("#!/bin/sh\nsleep 60\n", "/one: not finished after 0.3 s, so it was killed"),
}


@pytest.mark.parametrize(("text", "told"), FAILURES.values(), ids=FAILURES)
def test_a_failing_script_is_named(sealed: Sealed, text: str, told: str) -> None:
    # Only the script that is to be too slow gets little time: a busy machine may need that for any.
    limit = "script_timeout = 0.3\n" if "0.3 s" in told else ""
    folder = sealed.manage("win11", f"{limit}[pci]\n")
    script(folder / "prepare/begin/one", text)
    script(folder / "prepare/begin/two")
    result = sealed.hook("win11", "prepare", domain_xml())
    assert result.code == 1
    assert told in result.stderr
    assert result.stderr.count("\n") == 1
    assert not record(sealed)
    assert not sealed.journals()


def test_a_script_that_names_no_shell_is_bashs(sealed: Sealed) -> None:
    """VFIO-Tools ran it with bash, and it may be written for that."""
    text = 'source <(echo GPU=4)\n[[ $1 == win11 ]] && echo "$GPU $#" >> /run/record\nexit 0\n'
    script(sealed.manage("win11") / "prepare/begin/start.sh", text)
    assert sealed.hook("win11", "prepare", domain_xml()) == Result(0, b"", "")
    assert record(sealed) == ["4 4"]


def test_a_hook_that_is_told_to_end_ends_what_it_runs(sealed: Sealed) -> None:
    """With its group, and without the scripts that would follow."""
    folder = sealed.manage("win11") / "prepare/begin"
    script(folder / "1", "#!/bin/sh\nsleep 1000 &\necho $! $$ > /run/pids\nwait\n")
    script(folder / "2")
    argv = ("/etc/libvirt/hooks/qemu", "win11", "prepare", "begin", "-")
    pids = sealed.root / "run/pids"
    with sealed.popen(*argv) as process:
        assert process.stdin is not None
        process.stdin.write(domain_xml().encode())
        process.stdin.close()
        process.stdin = None
        assert until(lambda: pids.exists() and pids.read_text().endswith("\n"), 60)
        started = pids.read_text().split()
        process.terminate()
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"/1: stopped by SIGTERM, together with everything that it had started\n" in stderr
    assert until(lambda: all(map(has_ended, started)), 60)
    assert not record(sealed)


@pytest.mark.parametrize("mistake", ["", "typo", "dry run", "module", "state", "script"])
@pytest.mark.parametrize("op", ["stopped", "release"])
def test_the_last_scripts_run_whatever_happened_since(
    sealed: Sealed, op: str, mistake: str
) -> None:
    """They are what takes back what the first ones did."""
    folder = sealed.manage("win11")
    for name in ("10", "20"):
        script(folder / op / "end" / name, f"#!/bin/sh\necho {name} >> /run/record\nexit 1\n")
    assert sealed.hook("win11", "prepare", domain_xml()).code == 0
    match mistake:
        case "typo":
            sealed.manage("win11", "[pci\n")
        case "dry run":
            sealed.manage("win11", "dry_run = true\n[pci]\n")
        case "module":
            (folder / "mine.py").write_text("raise SystemExit\n")
        case "state":
            sealed.state.chmod(0o777)
        case "script":
            os.chown(script(folder / op / "end/15"), 65534, 0)
    sealed.logged()
    assert sealed.hook("win11", op, domain_xml()) == Result(0, b"", "")
    assert record(sealed) == ["10", "20"]
    last = sealed.logged()[-1]
    told = {"typo": "vm.toml:1", "module": "mine.py:1", "state": "/run/vfio-hooks", "script": "/15"}
    for what in ("/10: exit code 1", "/20: exit code 1", told.get(mistake, "")):
        assert what in last


@pytest.mark.parametrize("fault", ["", "device", "xml", "script"])
def test_a_dry_run_runs_nothing_and_stops_nothing(sealed: Sealed, fault: str) -> None:
    folder = sealed.manage("win11", "dry_run = true\n[pci]\n")
    for place in ("prepare/begin/one", "restore/begin/one", "release/end/one"):
        script(folder / place)
    if fault == "script":
        os.chown(folder / "prepare/begin/one", 65534, 0)
    xml = {"device": domain_xml(functions=("0000:99:00.0",)), "xml": "<domain>"}
    for op in ("prepare", "start", "started", "restore", "stopped", "release"):
        result = sealed.hook("win11", op, xml.get(fault, domain_xml()))
        assert result == Result(0, b"", "")
    assert not record(sealed)
    assert not sealed.journals()
    logged = "\n".join(sealed.logged())
    assert ("win11: would fail: " in logged) == bool(fault)
    unseen = ["prepare"] if fault in ("xml", "script") else []
    for op in ("prepare", "restore", "release"):
        told = f"would run /etc/libvirt/hooks/qemu.d/win11/{op}/"
        assert (told in logged) == (op not in unseen)


def test_a_dry_run_with_a_mistake_runs_nothing_at_its_end(sealed: Sealed) -> None:
    """Its start was refused, but libvirt calls the hook for what follows all the same."""
    folder = sealed.manage("win11", "dry_run = true\n[pci]\ngruop = 'bind'\n")
    for place in ("prepare/begin/one", "release/end/one"):
        script(folder / place)
    for op in ("prepare", "stopped", "release"):
        sealed.hook("win11", op, domain_xml())
    assert not record(sealed)


def test_a_bad_plan_is_told_before_any_script_runs(sealed: Sealed) -> None:
    script(sealed.manage("win11") / "prepare/begin/one")
    assert sealed.hook("win11", "prepare", domain_xml(functions=("0000:99:00.0",))).code == 1
    assert not record(sealed)


def test_children_in_the_background_do_not_hold_the_start_up(sealed: Sealed) -> None:
    waits = "while ! [ -e /run/go ]; do sleep 0.1; done; echo out; echo done > /run/went"
    script(sealed.manage("win11") / "prepare/begin/one", f"#!/bin/sh\n({waits}) &\n")
    assert sealed.hook("win11", "prepare", domain_xml()).code == 0
    (sealed.root / "run/go").touch()
    assert until((sealed.root / "run/went").exists, 60)


@pytest.mark.parametrize("what", ["folder", "script", "module", "vm folder"])
@pytest.mark.parametrize("why", ["owner", "mode"])
def test_what_others_may_have_written_is_refused_by_name(
    sealed: Sealed, what: str, why: str
) -> None:
    folder = sealed.manage("win11")
    place = {
        "folder": folder / "prepare/begin",
        "script": folder / "prepare/begin/one",
        "module": folder / "mine.py",
        "vm folder": folder,
    }[what]
    script(folder / "prepare/begin/one")
    (folder / "mine.py").write_text("def plan(*_): pass\n")
    if why == "owner":
        os.chown(place, 65534, 0)
    else:
        place.chmod(0o777)
    result = sealed.hook("win11", "prepare", domain_xml())
    assert result.code == 1
    assert "/" + str(place.relative_to(sealed.root)) + ": " in result.stderr
    assert not record(sealed)


MODULE = """
from dataclasses import dataclass
from vfio_hooks.knobs import File
from vfio_hooks.sharing import Override
from vfio_hooks.steps import Step

@dataclass(frozen=True)
class Options:
    brightness: str = "7"

def plan(event, domain, options, host):
    if event.op == "prepare":
        yield Step("lamp", File("/sys/lamp"), Override(options.brightness))
"""


@pytest.mark.parametrize(("toml", "value"), [("", "7"), ("[lamp]\nbrightness = '9'\n", "9")])
def test_a_module_is_a_plugin(sealed: Sealed, toml: str, value: str) -> None:
    lamp = sealed.root / "sys/lamp"
    lamp.write_text("1\n")
    (sealed.manage("win11", toml) / "lamp.py").write_text(MODULE)
    assert sealed.hook("win11", "prepare", domain_xml()).code == 0
    assert lamp.read_text() == value
    assert json.loads((sealed.state / sealed.journals()[0]).read_text().splitlines()[1])
    assert sealed.hook("win11", "release", domain_xml()).code == 0
    assert lamp.read_text() == "1"


def test_what_a_module_wants_done_at_the_end_is_done(sealed: Sealed) -> None:
    text = "import atexit\natexit.register(open, '/run/ended', 'w')\ndef plan(*_): return ()\n"
    (sealed.manage("win11") / "mine.py").write_text(text)
    assert sealed.hook("win11", "prepare", domain_xml()).code == 0
    assert (sealed.root / "run/ended").exists()


def test_a_cache_beside_a_module_is_neither_run_nor_made(sealed: Sealed, tmp_path: Path) -> None:
    """Anybody may have written it. Only the module's own file is checked for that."""
    folder = sealed.manage("win11")
    (folder / "mine.py").write_text("def plan(*_): return ()\n")
    assert sealed.hook("win11", "prepare", domain_xml()).code == 0
    assert not (folder / "__pycache__").exists()
    planted = tmp_path / "mine.py"
    planted.write_text("open('/run/record', 'w').write('planted')\ndef plan(*_): return ()\n")
    compile_it = (
        "import sys; from importlib.util import cache_from_source as cache;"
        "from py_compile import PycInvalidationMode as Mode, compile;"
        "compile(sys.argv[1], cache(sys.argv[2]), invalidation_mode=Mode.UNCHECKED_HASH)"
    )
    where = (str(planted), str(folder / "mine.py"))
    subprocess.run(["/usr/bin/python3", "-c", compile_it, *where], check=True)
    os.chown(next((folder / "__pycache__").iterdir()), 65534, 65534)
    assert sealed.hook("win11", "start", domain_xml()).code == 0
    assert not record(sealed)


BROKEN = {
    "syntax": ("def plan(:\n", "mine.py:1: SyntaxError"),
    "import": ("\nimport nothing_like_it\ndef plan(*_): pass\n", "mine.py:2: ModuleNotFoundError"),
    "in plan": ("def plan(*_):\n    x = {}\n    return x['a']\n", "mine.py:3: KeyError"),
    "in a generator": ("def plan(*_):\n    yield 5\n", "mine.py:?: TypeError: plan() yielded 5"),
    "exit": ("import sys\nsys.exit(5)\n", "mine.py:2: SystemExit: 5"),
    "exit in plan": ("def plan(*_):\n    exit('no')\n", "mine.py:2: SystemExit: no"),
    "anything": ("class X(BaseException): pass\nraise X('no')\n", "vfio-hooks: X: no"),
    "no plan": ("x = 1\n", "mine.py: has no plan()"),
}


@pytest.mark.parametrize(("text", "told"), BROKEN.values(), ids=BROKEN)
def test_an_exception_in_a_module_is_one_line(sealed: Sealed, text: str, told: str) -> None:
    folder = sealed.manage("win11")
    (folder / "mine.py").write_text(text)
    result = sealed.hook("win11", "prepare", domain_xml())
    assert result.code == 1
    assert told in result.stderr
    assert result.stderr.count("\n") == 1
    (folder / "restore").mkdir()
    for op in ("started", "restore", "stopped", "release"):
        assert sealed.hook("win11", op, domain_xml()) == Result(0, b"", "")


def test_what_a_module_prints_does_not_reach_libvirt(sealed: Sealed) -> None:
    """In no way: libvirt would take it for the domain's XML. What the kept hook prints does."""
    folder = sealed.manage("win11")
    ways = "print('a'); os.write(1, b'b'); os.system('echo c'); sys.__stdout__.write('d')"
    text = f"import os, sys\ndef plan(*_):\n    {ways}\n    return ()\n{ways}\n"
    (folder / "mine.py").write_text(text)
    (folder / "restore").mkdir()
    for op in ("prepare", "restore"):
        assert sealed.hook("win11", op, domain_xml()) == Result(0, b"", "")
    script(sealed.hooks / "qemu.kept", "#!/bin/sh\ncat\n")
    assert sealed.hook("win11", "restore", "<domain/>") == Result(0, b"<domain/>", "")


@pytest.mark.parametrize("step", ["missing", "refused"])
def test_an_optional_module_may_fail(sealed: Sealed, step: str) -> None:
    """While it plans (there is no lamp), and while its step is carried out."""
    if step == "refused":
        lamp = sealed.root / "sys/lamp"
        lamp.mkdir()
    text = MODULE if step == "refused" else "def plan(*_):\n    raise ValueError('no')\n"
    (sealed.manage("win11", "[pci]\n[lamp]\nrequired = false\n") / "lamp.py").write_text(text)
    result = sealed.hook("win11", "prepare", domain_xml())
    assert (result.code, result.stderr) == (0, "")
    assert any("going on without" in line for line in sealed.logged())
    assert sealed.journals()
    assert sealed.hook("win11", "release", domain_xml()).code == 0
    assert not sealed.journals()
