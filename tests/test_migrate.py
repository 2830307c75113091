"""vfio-hooks migrate: scripts in the style of each family, with what becomes of each line."""

import os
import re
import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.command import Command, as_nobody, needs_root
from tests.hosttree import domain_xml
from vfio_hooks.config import examine
from vfio_hooks.migrate import doing, scripts
from vfio_hooks.migrate.tables import tables, toml

pytestmark = pytest.mark.real_processes
SCRIPTS = sorted((Path(__file__).parent / "scripts").iterdir())
BOTH = "cpupower frequency-set -g powersave -d 1GHz"
EXPECTED = re.compile(r"#> (\w+)(?: ([a-z]+))?(?: \+ (\w+))?$")


def put(hooks: Path, script: Path) -> Path:
    """Give win11 a script, at the operation that its line #op names."""
    text = script.read_text(encoding="utf-8")
    op = re.search(r"^#op ?(\w*)$", text, re.MULTILINE)
    assert op
    subop = "end" if op[1] in ("stopped", "release") else "begin"
    place = hooks / "qemu.d/win11" / op[1] / subop / script.name if op[1] else hooks / "qemu.kept"
    place.parent.mkdir(parents=True, exist_ok=True)
    # Without the expected results, which would be read as well.
    place.write_text(re.sub(r" #> .*", "", text), encoding="utf-8")
    place.chmod(0o755)
    return place


@needs_root
@pytest.mark.parametrize("closed", [".", "hooks", "hooks/qemu.d/win11"])
def test_what_a_user_may_not_look_into_is_not_without_scripts(closed: str) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        put(Path(folder) / "hooks", SCRIPTS[0])
        Path(folder).chmod(0o755)
        (Path(folder) / "hooks/qemu.d/win11").mkdir(exist_ok=True, parents=True)
        (Path(folder) / closed).chmod(0o700)
        done = as_nobody("migrate", "win11", f"--config-dir={folder}/hooks")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.endswith(": cannot be read: Permission denied; try again with sudo\n")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_each_line_has_its_verdict(script: Path, tmp_path: Path) -> None:
    place = put(tmp_path, script)
    expected = {
        (number, *pair)
        for number, line in enumerate(script.read_text(encoding="utf-8").splitlines(), 1)
        if (found := EXPECTED.search(line))
        for pair in [(found[1], found[2] or ""), *([(found[3], "")] if found[3] else [])]
    }
    (read,) = scripts(str(tmp_path), "win11", str(tmp_path))
    assert read.path == str(place)
    assert {(one.line, one.kind, one.table) for one in read.verdicts} == expected


def test_there_are_scripts_of_each_family() -> None:
    assert len(SCRIPTS) >= 25


def made_of(tmp_path: Path, *names: str) -> dict[str, Any]:
    for script in SCRIPTS:
        if script.stem in names:
            put(tmp_path, script)
    text = toml(tables(scripts(str(tmp_path), "win11", str(tmp_path)))[0], ())
    return tomllib.loads(text)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("tools-gpu-start", "tools-gpu-end"), {"session": {}, "gpu": {}, "pci": {}}),
        (
            ("amd-session",),
            {"session": {"leftovers": "end", "modules": ["amdgpu"]}, "gpu": {}, "pci": {}},
        ),
        (
            ("governor", "governor-end"),
            {
                "governor": {
                    "governor": "performance",
                    "min_freq": 3600000,
                    "max_exit_latency": 0,
                    "boost": False,
                }
            },
        ),
        (
            ("own-hook",),
            {"inhibit": {}, "governor": {"governor": "performance", "cpus": "all"}},
        ),
        (
            ("hugepages-2",),
            {"hugepages": {}, "memory": {"drop_caches": 3, "compact_memory": True}},
        ),
        (
            ("isolate-systemd",),
            {
                "memory": {"stat_interval": 120, "transparent_hugepage": "never"},
                "cpus": {},
                "write": [{"path": "kernel.watchdog", "value": 0}],
            },
        ),
        (
            ("sriov",),
            {
                "sriov": [
                    {"pf": "enp7s0f1", "numvfs": 2},
                    {"pf": "enp7s0f1", "vf": 1, "vlan": 69},
                    {"pf": "enp7s0f1", "vf": 0, "mac": "52:54:00:11:22:33"},
                ]
            },
        ),
        (
            ("mdev", "mdev-end"),
            {
                "mdev": [
                    {
                        "type": "i915-GVTg_V5_4",
                        "parent": "0000:00:02.0",
                        "uuid": "a297db4a-f4c2-11e6-90f6-d3b88d6c9525",
                    },
                    {
                        "type": "nvidia-63",
                        "parent": "0000:41:00.0",
                        "uuid": "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001",
                    },
                    {"uuid": "83b8f4f2-509f-382f-3c1e-e6bfe0fa1002"},
                ],
                "governor": {"governor": "unchanged", "power_profile": "performance"},
            },
        ),
        (
            ("looking-glass",),
            {
                "shm": [{"name": "looking-glass", "owner": "alice"}],
                "process": [
                    {"command": "looking-glass-client -F", "user": "alice"},
                    {"command": "scream -i virbr0", "user": "alice"},
                ],
            },
        ),
        (
            ("reset",),
            {
                "gpu": {
                    "reset_method": "device_specific",
                    "d3cold": False,
                    "power": "on",
                    "bar_sizes": {"0": 256},
                }
            },
        ),
        (
            ("services",),
            {
                "service": [
                    {"unit": "ollama.service", "action": "stop"},
                    {"unit": "smb", "action": "start"},
                    {"unit": "docker.socket", "action": "stop"},
                    {"unit": "docker.service", "action": "stop"},
                    {"unit": "nmbd", "action": "stop"},
                ],
                "session": {},
                "gpu": {},
            },
        ),
        (
            ("added",),
            {
                "service": [
                    {"unit": "docker.socket", "action": "stop"},
                    {"unit": "docker.service", "action": "stop"},
                    {"unit": "nmbd", "action": "stop"},
                ],
                "memory": {"swappiness": 10},
            },
        ),
        (("bars",), {"session": {}, "gpu": {"bar_sizes": {"0": 256, "2": 2}}}),
        (
            ("arguments",),
            {
                "usb": [{"device": "1-4"}, {"device": "2-1:1.0", "driver": "usb-storage"}],
                "service": [
                    {"unit": "docker", "action": "stop"},
                    {"unit": "cups.path", "action": "stop"},
                ],
                "pci": {},
                "governor": {"governor": "performance", "cpus": "all"},
            },
        ),
        (
            ("units-of-its-own",),
            {
                "process": [
                    {"command": "scream -i virbr0"},
                    {"command": "looking-glass-client -F", "user": "alice"},
                    {"command": "barrierc -f host", "user": "bob"},
                    {"command": "remmina -c vm", "user": "bob"},
                ],
                "session": {"leftovers": "end"},
                "gpu": {},
                "display": {},
            },
        ),
        (
            ("unknown",),
            {
                "memory": {"stat_interval": 120, "swappiness": 10},
                "governor": {"governor": "performance"},
            },
        ),
        (
            ("locked",),
            {
                "session": {"leftovers": "end"},
                "gpu": {},
                "governor": {"governor": "performance", "cpus": "all"},
            },
        ),
        (("lowest",), {"governor": {"governor": "unchanged", "min_freq": 3600000, "cpus": "all"}}),
        (
            ("lists",),
            {
                "governor": {"governor": "performance", "min_freq": 3600000},
                "service": [
                    {"unit": "docker", "action": "stop"},
                    {"unit": "cups.path", "action": "stop"},
                    {"unit": "scream.path", "action": "stop"},
                ],
            },
        ),
        (
            ("vfs",),
            {
                "sriov": [
                    {"pf": "enp3s0f0", "numvfs": 4},
                    {"pf": "enp3s0f0", "vf": 0, "vlan": 10, "trust": True, "spoofchk": False},
                    {"pf": "enp3s0f0", "vf": 1, "state": "enable"},
                ]
            },
        ),
        (
            ("second-desktop",),
            {
                "session": {"modules": ["nouveau", "nvidia"], "restart": "without-card"},
                "gpu": {},
            },
        ),
        (
            ("saved", "saved-end"),
            {
                "memory": {"swappiness": 10, "transparent_hugepage": "never", "ksm": 0},
                "governor": {"governor": "performance", "min_freq": 2800000},
                "service": [{"unit": "a", "action": "stop"}, {"unit": "b", "action": "stop"}],
            },
        ),
        (
            ("branches",),
            {
                "service": [
                    {"unit": unit, "action": action}
                    for unit, action in (
                        ("tlp", "stop"),
                        ("samba", "start"),
                        ("ollama", "stop"),
                        ("plex", "stop"),
                    )
                ],
                "memory": {"nmi_watchdog": 0, "stat_interval": 120, "ksm": 0},
            },
        ),
        (
            ("optimus",),
            {"session": {"restart": "without-card"}, "gpu": {}, "pci": {}},
        ),
        (
            ("substituted",),
            {
                "service": [
                    {"unit": "docker", "action": "stop"},
                    {"unit": "jellyfin", "action": "stop"},
                    {"unit": "ollama", "action": "stop"},
                    {"unit": "plex", "action": "stop"},
                    {"unit": "evdev-proxy", "action": "restart"},
                ],
                "display": {},
                "session": {"leftovers": "end"},
                "gpu": {},
                "memory": {"swappiness": 10},
            },
        ),
        # What a script goes on doing that is not understood must not be done twice.
        (("unread",), {}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_tables_do_the_same(tmp_path: Path, names: tuple[str, ...], expected: object) -> None:
    assert made_of(tmp_path, *names) == expected


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_what_is_written_is_valid(script: Path, tmp_path: Path) -> None:
    put(tmp_path, script)
    text = toml(tables(scripts(str(tmp_path), "win11", str(tmp_path)))[0], ("in place of",))
    home = tmp_path / "written/qemu.d/win11"
    home.mkdir(parents=True)
    (home / "vm.toml").write_text(text)
    config, problems = examine(str(tmp_path / "written"), "win11")
    # An empty [[sriov]] is right where the domain says which functions are meant.
    assert (config is not None, problems) == (True, [])


def test_files_that_are_called_are_followed(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/vfio-startup.sh").write_text("#!/bin/bash\nsystemctl stop $MANAGER\n")
    (tmp_path / "kvm.conf").write_text("MANAGER=sddm\n")
    caller = tmp_path / "qemu.d/win11/prepare/begin/start.sh"
    caller.parent.mkdir(parents=True)
    caller.write_text("source /kvm.conf\n/bin/vfio-startup.sh\n")
    caller.chmod(0o755)
    (read,) = scripts(str(tmp_path), "win11", str(tmp_path))
    (verdict,) = read.verdicts
    assert (verdict.file, verdict.line, verdict.table) == ("/bin/vfio-startup.sh", 2, "session")


def test_a_line_that_is_called_has_its_own_place(tmp_path: Path) -> None:
    """A script that is called by its name, behind sudo, and a function of another file."""
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    (tmp_path / "usr/local/bin/rebind").write_text("#!/bin/sh\n\necho $1 > $2/unbind\n")
    (tmp_path / "functions").write_text("end() {\n    killall sway\n}\n")
    (tmp_path / "more.sh").write_text("systemctl stop docker\n")
    caller = tmp_path / "qemu.d/win11/prepare/begin/start.sh"
    caller.parent.mkdir(parents=True)
    (caller.parent / "part").write_text("sysctl vm.swappiness=10\n")
    caller.write_text(
        "source /functions\nend\nsudo rebind 0000:05:00.0 /sys/bus/pci/drivers/e1000e\n"
        'su alice -c "bash -x /more.sh"\n. "$(dirname "$0")/part"\n'
    )
    caller.chmod(0o755)
    (read,) = scripts(str(tmp_path), "win11", str(tmp_path))
    assert [(one.file, one.line, one.called_at, one.table) for one in read.verdicts] == [
        ("/functions", 2, 2, "session"),
        ("/usr/local/bin/rebind", 3, 3, "pci"),
        ("/more.sh", 1, 4, "service"),
        (str(caller.parent / "part"), 1, 5, "memory"),
    ]


def test_a_script_that_is_called_has_its_own_arguments_and_variables(tmp_path: Path) -> None:
    (tmp_path / "governor.sh").write_text(
        "echo $1 > /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor\nUNIT=other\nexit\n"
    )
    (tmp_path / "vm.sh").write_text("systemctl start for-$1\n")
    caller = tmp_path / "qemu.d/win11/prepare/begin/start.sh"
    caller.parent.mkdir(parents=True)
    caller.write_text(
        "UNIT=swtpm\nsh /governor.sh performance\n. /vm.sh\nsystemctl start $UNIT-$1-$2\n"
    )
    caller.chmod(0o755)
    found = tables(scripts(str(tmp_path), "win11", str(tmp_path)))[0]
    assert found == {
        "service": [
            {"unit": "for-win11", "action": "start"},
            {"unit": "swtpm-win11-prepare", "action": "start"},
        ],
        "governor": [{"governor": "performance"}],
    }


@pytest.mark.parametrize(
    ("line", "latency"),
    [
        ("cpupower idle-set -D 0", 0),
        ("cpupower -c 4-7 idle-set -D1", 0),
        ("cpupower idle-set --disable-by-latency 10", 9),
    ],
)
def test_cpupower_disables_the_states_of_just_that_latency_as_well(
    tmp_path: Path, line: str, latency: int
) -> None:
    """cpupower-idle-set(1): "with an equal or higher latency"; the kernel's limit is inclusive."""
    caller = tmp_path / "qemu.d/win11/prepare/begin/start.sh"
    caller.parent.mkdir(parents=True)
    caller.write_text(f"#!/bin/sh\n{line}\n")
    caller.chmod(0o755)
    (governor,) = tables(scripts(str(tmp_path), "win11", str(tmp_path)))[0]["governor"]
    assert governor["max_exit_latency"] == latency


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("systemctl stop docker.service", "systemctl start docker", "needless"),
        ("true", "systemctl start docker", "keep"),
        ("sysctl kernel.watchdog=0", "echo 1 > /proc/sys/kernel/watchdog", "needless"),
        ("sysctl kernel.panic=0", "echo 1 > /proc/sys/kernel/watchdog", "keep"),
        ("powerprofilesctl set performance", "powerprofilesctl set balanced", "needless"),
        ("powerprofilesctl set performance", 'powerprofilesctl set "$(cat /tmp/was)"', "needless"),
        ("powerprofilesctl set balanced", "powerprofilesctl set performance", "keep"),
        ("cpupower frequency-set -g performance", "powerprofilesctl set balanced", "keep"),
        ("cpupower frequency-set -g $(cat /x)", BOTH, "keep"),
        ("cpupower frequency-set -d 2GHz", BOTH, "mistake"),
    ],
)
def test_a_line_at_the_end_is_needless_only_if_there_is_one_that_it_undoes(
    command: Command, before: str, after: str, kind: str
) -> None:
    script(command, f"#!/bin/sh\n{before}\n")
    script(command, f"#!/bin/sh\n{after}\n", "release/end/stop.sh")
    found = scripts(str(command.hooks), "win11", str(command.host))
    assert [one.kind for one in found[-1].verdicts] == [kind]


def test_what_a_kept_line_sets_is_put_back_by_the_script_for_the_end(tmp_path: Path) -> None:
    for path in SCRIPTS:
        if path.stem.startswith("branches"):
            put(tmp_path, path)
    _, end = scripts(str(tmp_path), "win11", str(tmp_path))
    assert [one.kind for one in end.verdicts] == ["keep", "keep", "needless"]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (
            "if on_ac_power; then\n  g=performance\nelse\n  g=powersave\nfi\n"
            "cpupower frequency-set -g $g",
            "line 2 decides when the script runs: performance or powersave",
        ),
        (
            'g=$(cat /etc/governor)\n[ -n "$g" ] || g=ondemand\ncpupower frequency-set -g $g',
            "line 3 decides when the script runs: ondemand or another value",
        ),
        (
            "on_ac_power && systemctl stop a || systemctl start a",
            "line 2 decides when the script runs: a stop or a start",
        ),
    ],
)
def test_a_line_that_depends_on_a_branch_says_which(command: Command, lines: str, why: str) -> None:
    script(command, f"#!/bin/sh\n{lines}\n")
    (read,) = scripts(str(command.hooks), "win11", str(command.host))
    assert {(one.kind, one.why) for one in read.verdicts} == {("keep", why)}


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("if on_ac_power; then\n  sysctl vm.swappiness=10\nfi", "line 2"),
        ("[ $(cat /sys/x) -lt 3 ] || sysctl vm.swappiness=10", "line 2"),
        ("case $(uname -n) in\n  desk) sysctl vm.swappiness=10 ;;\nesac", "line 2"),
        ("if [ -e /a ]; then\n  if grep -q b /c; then sysctl vm.swappiness=1; fi\nfi", "line 3"),
        # These only look whether something is there.
        ("if [ ! -f /etc/x ]; then sysctl vm.swappiness=10; fi", ""),
        ("systemctl is-active docker && systemctl stop docker", ""),
        ("if ! lspci | grep -q NVIDIA; then sysctl vm.swappiness=10; fi", ""),
        ("[ 1 = 1 ] && sysctl vm.swappiness=10", ""),
    ],
)
def test_a_table_that_a_test_decides_on_says_so(command: Command, lines: str, told: str) -> None:
    script(command, f"#!/bin/sh\n{lines}\n")
    (read,) = scripts(str(command.hooks), "win11", str(command.host))
    (verdict,) = read.verdicts
    assert verdict.kind == "table"
    assert verdict.why.partition("; in the script this depends on ")[2] == told


def test_each_value_from_branches_in_branches_is_told(command: Command) -> None:
    lines = "case $(uname) in\na) x=2 ;;\nb) x=3 ;;\n*) x=4 ;;\nesac"
    text = f"#!/bin/sh\nx=1\nif on_ac_power; then\n{lines}\nfi\nsysctl vm.swappiness=$x\n"
    script(command, text)
    (read,) = scripts(str(command.hooks), "win11", str(command.host))
    assert sorted((one.kind, one.command[-1]) for one in read.verdicts) == [
        ("keep", number) for number in "1234"
    ]


@pytest.mark.parametrize(
    "line",
    [
        "on_ac_power && x=2; grep -q a /b && x=3",
        "if on_ac_power; then x=2; fi; if grep -q a /b; then x=3; fi",
        "if on_ac_power; then x=2; fi && grep -q a /b && x=3",
    ],
)
def test_two_choices_in_one_line_are_two(command: Command, line: str) -> None:
    script(command, f"#!/bin/sh\nx=1\n{line}\nsysctl vm.swappiness=$x\n")
    (read,) = scripts(str(command.hooks), "win11", str(command.host))
    assert sorted((one.kind, one.command[-1]) for one in read.verdicts) == [
        ("keep", number) for number in "123"
    ]


def test_what_decides_in_another_file_is_told_with_that_file(tmp_path: Path) -> None:
    (tmp_path / "part.sh").write_text("sysctl vm.stat_interval=120\nsysctl vm.swappiness=$level\n")
    caller = tmp_path / "qemu.d/win11/prepare/begin/start.sh"
    caller.parent.mkdir(parents=True)
    choice = "on_ac_power && level=1 || level=10"
    caller.write_text(f"#!/bin/sh\n{choice}\nif on_ac_power; then\n  . /part.sh\nfi\n")
    caller.chmod(0o755)
    (read,) = scripts(str(tmp_path), "win11", str(tmp_path))
    first, *others = read.verdicts
    assert first.why.endswith(f"; in the script this depends on line 3 of {caller}")
    assert {one.why for one in others} == {
        f"line 2 of {caller} decides when the script runs: 1 or 10"
    }


def test_loops_in_loops_are_followed(command: Command) -> None:
    """Work that doubled with each loop would be too much."""
    depth = 24
    loops = "while true; do\n" * depth + "sysctl vm.swappiness=$i\ni=1$i\n" + "done\n" * depth
    script(command, f"#!/bin/sh\ni=1\n{loops}")
    (read,) = scripts(str(command.hooks), "win11", str(command.host))
    assert read.is_read
    assert [one.kind for one in read.verdicts if "swappiness" in one.command] == ["keep"]


def test_a_function_that_calls_itself_is_followed_once(command: Command) -> None:
    script(command, "#!/bin/sh\nf() { echo $(f); g=$(f); f; foo; }\nf\nsysctl vm.swappiness=$(f)\n")
    (read,) = scripts(str(command.hooks), "win11", str(command.host))
    assert [(one.kind, one.command) for one in read.verdicts] == [
        ("keep", "foo"),
        ("keep", "sysctl vm.swappiness=?"),
    ]


def test_a_function_that_calls_itself_with_what_is_left_is_followed(command: Command) -> None:
    stop = 'stop() { systemctl stop "$1"; shift; [ $# = 0 ] || stop "$@"; }'
    script(command, f"#!/bin/sh\n{stop}\nstop docker plex\n")
    (read,) = scripts(str(command.hooks), "win11", str(command.host))
    assert [(one.kind, one.command) for one in read.verdicts] == [
        ("table", "systemctl stop docker"),
        ("table", "systemctl stop plex"),
        # The reader does not count what is left.
        ("keep", "systemctl stop ?"),
    ]


def test_a_script_that_is_too_much_to_follow_is_not_read(command: Command) -> None:
    calls = "".join(f"f{n}() {{ {f'f{n + 1}; ' * 30}}}\n" for n in range(7))
    script(command, f"#!/bin/sh\nsysctl vm.swappiness=1\n{calls}f7() {{ true; }}\nf0\n")
    (read,) = scripts(str(command.hooks), "win11", str(command.host))
    assert not read.is_read


@pytest.mark.parametrize(
    ("line", "cpus"),
    [
        ("echo performance | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor", "all"),
        ("echo performance > /sys/devices/system/cpu/cpu4/cpufreq/scaling_governor", None),
        ("cpupower -c 4-7 frequency-set -g performance", None),
        # A limit for the VM's CPUs alone must not reach the others.
        (
            "cpupower frequency-set -g performance\n"
            "echo n/a > /sys/devices/system/cpu/cpu4/power/pm_qos_resume_latency_us",
            None,
        ),
        # The power profile is about no CPU.
        ("cpupower frequency-set -g performance\npowerprofilesctl set performance", "all"),
        ("powerprofilesctl set performance", None),
    ],
)
def test_all_cpus_are_meant_only_where_each_line_means_them(
    command: Command, line: str, cpus: str | None
) -> None:
    script(command, f"#!/bin/sh\n{line}\n")
    found = tables(scripts(str(command.hooks), "win11", str(command.host)))[0]
    assert found["governor"][0].get("cpus") == cpus


def test_vfs_that_are_removed_first_need_no_table(command: Command) -> None:
    file = "/sys/bus/pci/devices/0000:08:00.0/sriov_numvfs"
    script(command, f"#!/bin/sh\necho 0 > {file}\necho 2 > {file}\n")
    found = tables(scripts(str(command.hooks), "win11", str(command.host)))[0]
    assert found == {"sriov": [{"pf": "0000:08:00.0", "numvfs": 2}]}


def test_a_hook_that_was_replaced_is_read_and_is_not_run(migrate: Any, command: Command) -> None:
    hook = command.hooks / "qemu.replaced"
    hook.write_text("#!/bin/sh\n[ $1/$2 != win11/prepare ] || systemctl stop docker\n")
    hook.chmod(0o755)
    kept = command.hooks / "qemu.kept"
    kept.write_text("#!/bin/sh\n[ $1/$2 != win11/prepare ] || sysctl vm.swappiness=10\n")
    kept.chmod(0o755)
    assert doing(str(command.hooks), "win11", str(command.host)) == {"memory": "qemu.kept:2"}
    shown = migrate().out
    assert "qemu.replaced (not run any more)" in shown
    assert "[memory] is left out" in shown
    assert migrate("--json").json["tables"] == {"service": [{"unit": "docker", "action": "stop"}]}


def test_a_program_is_not_read(tmp_path: Path) -> None:
    place = tmp_path / "qemu.d/win11/prepare/begin/start"
    place.parent.mkdir(parents=True)
    for data in (b"\x7fELF\0\0", b"#!/usr/bin/python3\nimport os\n"):
        place.write_bytes(data)
        place.chmod(0o755)
        (read,) = scripts(str(tmp_path), "win11")
        assert [one.kind for one in read.verdicts] == ["unread"]


@pytest.fixture
def migrate(command: Command, tmp_path: Path) -> Any:
    xml = tmp_path / "win11.xml"
    xml.write_text(domain_xml(functions=("0000:05:00.0",)))
    command.hooks.chmod(0o755)
    (command.hooks / "qemu.d").chmod(0o755)

    def run(*argv: str) -> Any:
        places = ("--root", str(command.host), "--config-dir", str(command.hooks))
        return command("migrate", "win11", *places, "--xml", str(xml), *argv)

    return run


def script(command: Command, text: str, name: str = "prepare/begin/start.sh") -> Path:
    path = command.hooks / "qemu.d/win11" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


GOVERNOR = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"
BIND = "#!/bin/sh\nvirsh nodedev-detach pci_0000_05_00_0\n"
MIXED = (
    "#!/bin/sh\nif true; then\n    virsh nodedev-detach pci_0000_05_00_0\nfi\nddcutil setvcp 60 1\n"
)


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mode) for path in files}


@pytest.mark.parametrize("before", [None, "[inhibit]\n"])
def test_writing_and_going_back(migrate: Any, command: Command, before: str | None) -> None:
    whole = script(command, BIND)
    mixed = script(command, MIXED, "started/begin/more.sh")
    home = command.hooks / "qemu.d/win11"
    if before:
        (home / "vm.toml").write_text(before)
    was = tree(home)
    done = migrate("--write", "--yes")
    assert (done.code, done.err) == (0, "")
    assert not whole.exists()
    assert mixed.read_text().splitlines()[2] == (
        "    : # vfio-hooks does this: virsh nodedev-detach pci_0000_05_00_0"
    )
    assert os.access(mixed, os.X_OK)
    text = (home / "vm.toml").read_text()
    assert list(tomllib.loads(text)) == [*(["inhibit"] if before else []), "pci"]
    done = tree(home)
    again = migrate("--write", "--yes")
    assert (again.code, again.err, tree(home)) == (0, "", done)
    assert again.out.endswith("nothing is left to do; --undo goes back to its scripts\n")
    new = script(command, "#!/bin/sh\nsysctl vm.swappiness=1\n", "prepare/begin/new.sh")
    (command.host / "proc/sys/vm").mkdir(parents=True)
    (command.host / "proc/sys/vm/swappiness").write_text("60\n")
    again = migrate("--write", "--yes")
    assert (again.code, "win11 was migrated before" in again.err) == (1, True)
    new.unlink()
    assert tree(home) == done
    assert migrate("--undo").code == 0
    assert tree(home) == was
    assert migrate("--undo").err.endswith("was not migrated: it has no .migrated\n")


def test_a_file_that_was_changed_since_is_kept(migrate: Any, command: Command) -> None:
    script(command, BIND)
    migrate("--write", "--yes")
    file = command.hooks / "qemu.d/win11/vm.toml"
    file.write_text(file.read_text() + "[inhibit]\n")
    changed = file.read_text()
    assert migrate("--undo").code == 0
    assert not file.exists()
    assert file.with_name("vm.toml.changed").read_text() == changed


@pytest.mark.parametrize("text", [BIND, MIXED], ids=["moved away", "reduced"])
def test_a_script_that_was_changed_since_is_kept(migrate: Any, command: Command, text: str) -> None:
    file = script(command, text)
    migrate("--write", "--yes")
    script(command, "#!/bin/sh\necho mine\n")
    assert migrate("--undo").code == 0
    kept = file.with_name("start.sh.changed")
    assert (file.read_text(), kept.read_text()) == (text, "#!/bin/sh\necho mine\n")
    assert os.access(file, os.X_OK) and kept.stat().st_mode & 0o777 == 0o644


def test_a_vm_that_would_not_start_is_not_migrated(migrate: Any, command: Command) -> None:
    script(command, "#!/bin/sh\nsystemctl set-property user.slice AllowedCPUs=0-3\n")
    was = tree(command.hooks)
    done = migrate("--write", "--yes")
    assert (done.code, tree(command.hooks)) == (1, was)
    assert "with this vm.toml win11 would not start: cpus: " in done.err


def test_without_a_yes_nothing_is_changed(migrate: Any, command: Command) -> None:
    script(command, BIND)
    was = tree(command.hooks)
    assert migrate("--write").code == 1
    assert tree(command.hooks) == was


KEPT = "ddcutil setvcp 60 1"


@pytest.mark.parametrize(
    ("lines", "cut"),
    [
        ('virsh nodedev-detach "${CARD}" || true', True),
        ("virsh nodedev-detach x 2>/dev/null || exit 1", True),
        ("for n in 0 1; do virsh nodedev-detach pci_0000_05_00_$n; done", True),
        ("if lsmod | grep -q e1000e; then modprobe vfio; fi", True),
        ("virsh \\\n    nodedev-detach \\\n    x", True),
        ("echo 10 |\n    tee /proc/sys/vm/swappiness", True),
        # There are more of these than are followed.
        ("for n in {0..127}; do echo 0 > /sys/kernel/x$n; done", False),
        # Later lines depend on these, or the way that the script takes does.
        ("CARD=1; virsh nodedev-detach x", False),
        ("virsh nodedev-detach x && export CARD=1", False),
        ("virsh nodedev-detach x; cd /", False),
        (f"virsh nodedev-detach x; {KEPT}", False),
        ("if virsh nodedev-detach x; then\n    CARD=1\nfi", False),
    ],
)
def test_what_is_cut_is_nothing_else(migrate: Any, command: Command, lines: str, cut: bool) -> None:
    kept = script(command, f"#!/bin/bash\nCARD=0\n{lines}\n{KEPT}\n")
    other = script(command, "#!/bin/sh\nsysctl vm.swappiness=10\n", "started/begin/other.sh")
    (command.host / "proc/sys/vm").mkdir(parents=True)
    (command.host / "proc/sys/vm/swappiness").write_text("60\n")
    was = kept.read_text()
    assert migrate("--write", "--yes").code == 0
    assert not other.exists()
    now = [line for line in kept.read_text().splitlines() if line.strip()[:1] not in ("#", ":")]
    assert (now == ["CARD=0", KEPT], kept.read_text() != was) == (cut, cut)


def test_a_script_that_is_no_utf_8_is_not_rewritten(migrate: Any, command: Command) -> None:
    script(command, "#!/bin/sh\nsysctl vm.swappiness=10\n", "started/begin/other.sh")
    (command.host / "proc/sys/vm").mkdir(parents=True)
    (command.host / "proc/sys/vm/swappiness").write_text("60\n")
    kept = script(command, "")
    kept.write_bytes(was := f"{BIND}/opt/für-win\n".encode("latin-1"))
    assert migrate("--write", "--yes").code == 0
    assert kept.read_bytes() == was


def test_a_pause_for_what_is_kept_stays(migrate: Any, command: Command) -> None:
    kept = script(
        command,
        f"#!/bin/sh\nsleep 1\nvirsh nodedev-detach x\n{KEPT}\nsleep 2\n{KEPT}\n"
        "until pidof kvm; do\n    sleep 3\ndone\nsleep 4\n",
    )
    assert migrate("--write", "--yes").code == 0
    paused = [line.strip() for line in kept.read_text().splitlines() if "sleep" in line]
    assert [line for line in paused if line[0] != ":"] == ["sleep 2", "sleep 3"]


@needs_root
def test_links_and_owners_come_back(migrate: Any, command: Command, tmp_path: Path) -> None:
    target = tmp_path / "mine.sh"
    target.write_text(f"{BIND}{KEPT}\n")
    target.chmod(0o755)
    link = command.hooks / "qemu.d/win11/prepare/begin/link.sh"
    whole = script(command, BIND)
    link.symlink_to(os.path.relpath(target, link.parent))
    file = command.manage("win11", "[inhibit]\n")
    for number, path in enumerate((link, whole, file), 1000):
        os.chown(path, number, number, follow_symlinks=False)
    file.chmod(0o640)

    def state() -> list[object]:
        found = [path.lstat() for path in (link, whole, file, target)]
        return [(one.st_uid, one.st_gid, one.st_mode, one.st_mtime_ns) for one in found]

    before = state()
    assert migrate("--write", "--yes").code == 0
    assert not link.is_symlink() and target.read_text() == f"{BIND}{KEPT}\n"
    assert migrate("--undo").code == 0
    assert (state(), link.resolve()) == (before, target)


def test_a_vm_of_which_nothing_can_be_taken_over(migrate: Any, command: Command) -> None:
    kept = command.hooks / "qemu.kept"
    kept.write_text("#!/bin/sh\nsysctl vm.swappiness=10\n")
    kept.chmod(0o755)
    was = tree(command.hooks)
    done = migrate("--write", "--yes")
    assert (done.code, tree(command.hooks)) == (1, was)
    assert "nothing of win11's scripts can be taken over" in done.err


def test_a_line_that_cannot_be_cut_keeps_its_script(migrate: Any, command: Command) -> None:
    kept = script(command, "#!/bin/sh\ntrue && virsh nodedev-detach x && ddcutil setvcp 60 1\n")
    done = migrate("--write", "--yes")
    assert "[pci] is left out" in done.out
    assert kept.exists()


def test_a_vm_without_scripts(migrate: Any, command: Command) -> None:
    command.manage("win11")
    assert migrate().err.startswith("vfio-hooks: win11 has no scripts")


def test_it_is_shown_line_by_line(migrate: Any, command: Command) -> None:
    script(command, MIXED)
    shown = migrate().out
    assert "    3  virsh nodedev-detach pci_0000_05_00_0\n        [pci]: virsh in a hook" in shown
    assert "    5  ddcutil setvcp 60 1\n        keep: no table does this" in shown
    assert "1 by a table, 1 keep\n" in shown
    found = migrate("--json").json
    assert [line["table"] for line in found["scripts"][0]["lines"]] == ["pci", ""]
    assert found["tables"] == {"pci": [{}]}


def test_the_commands_of_one_line_are_shown_in_their_order(migrate: Any, command: Command) -> None:
    """Those that do the same by their first one."""
    two = "; ".join(f"echo powersave > {GOVERNOR.format(cpu)}" for cpu in (0, 1))
    script(command, f"#!/bin/sh\nvirsh nodedev-detach pci_0000_05_00_0; foo; {two}; bar\n")
    shown = [line for line in migrate().out.splitlines() if line.startswith("    2  ")]
    assert shown == [
        "    2  virsh nodedev-detach pci_0000_05_00_0",
        "    2  foo",
        f"    2  write powersave > {GOVERNOR.format(0)}",
    ]


def test_bash_is_there_to_check_what_was_cut() -> None:
    assert shutil.which("bash")


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("n=4100\necho $((n / 2)) > /proc/sys/vm/nr_hugepages", "mistake"),
        ("echo 2049 > /proc/sys/vm/nr_hugepages", "mistake"),
        ("echo 2048 > /proc/sys/vm/nr_hugepages", "table"),
        ("sysctl -w vm.nr_hugepages=4096", "mistake"),
        ("echo 5 > /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "mistake"),
        ("echo 4 > /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "table"),
        ('echo "$pages" > /proc/sys/vm/nr_hugepages', "table"),
    ],
)
def test_more_pages_than_the_vm_needs_are_a_mistake(
    command: Command, tmp_path: Path, line: str, kind: str
) -> None:
    """A VM of 4 GiB. The table takes the line's place all the same."""
    xml = tmp_path / "win11.xml"
    xml.write_text(domain_xml(more="<memory>4194304</memory>"))
    script(command, f"#!/bin/sh\n{line}\n")
    places = ("--root", str(command.host), "--config-dir", str(command.hooks))
    told = command("migrate", "win11", *places, "--xml", str(xml), "--json").json
    (verdict,) = told["scripts"][0]["lines"]
    assert (verdict["kind"], list(told["tables"])) == (kind, ["hugepages"])
    assert kind == "table" or "that the VM's 4 GiB need" in verdict["why"]
