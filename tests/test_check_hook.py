"""Each rule about the hook, with and without what it looks for."""

import os
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.patient import Tree, grow, patient, win11
from tests.telling import compare, compare_names, named, told
from vfio_hooks import commands
from vfio_hooks.check import Finding, examine, rules
from vfio_hooks.check.rule import Patient
from vfio_hooks.event import OPERATIONS
from vfio_hooks.host import Host
from vfio_hooks.record import replace

pytestmark = pytest.mark.real_processes
FLATPAK = "home/alice/.var/app/org.virt_manager.virt-manager/config/libvirt/qemu"
HOOKS = "etc/libvirt/hooks"
VM = f"{HOOKS}/qemu.d/win11"
GPU = "0000:04:00.0"
SH = {"bin/sh": "#!"}
PYTHON = {**SH, "usr/bin/python3": "#!/bin/sh"}
LIBRARY = {"usr/local/lib/vfio-hooks/1.0-a/vfio_hooks/dispatch.py": ""}
OURS = (
    "#!/bin/sh\n"
    "python=/usr/bin/python3\n"
    'LIBRARY = "/usr/local/lib/vfio-hooks/1.0-a"\n'
    "from vfio_hooks.dispatch import main"
)
HOOK: Tree = {**PYTHON, **LIBRARY, f"{HOOKS}/qemu": OURS}
APPARMOR = {"sys/module/apparmor/parameters/enabled": "Y"}
PROFILE = "etc/apparmor.d/abstractions/libvirt-qemu"
STRICT = (
    "<memoryBacking><hugepages/></memoryBacking>"
    "<numatune><memory mode='strict' nodeset='1'/></numatune>"
)
UUID = "6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c11"
JOURNAL = (
    '{"record":"begin","event":"prepare","vm":"win11","number":1,"journal":1}\n'
    '{"record":"claim","number":1,"event":"prepare","time":1.0,"step":{"plugin":"write",'
    '"knob":{"kind":"file","path":"/sys/a"},"share":{"kind":"override","value":"1"},'
    '"until":"release"},"base":"0"}\n{"record":"end"}'
)
_CLAIM = JOURNAL.splitlines()[1]
TWO_CLAIMS = JOURNAL.replace(_CLAIM, f"{_CLAIM}\n{_CLAIM.replace(':1,', ':2,')}")
FILE = f"run/vfio-hooks/{UUID}.journal"
NO_FOLDER = {f"{HOOKS}/qemu.d/": ""}
SCRIPT = f"{VM}/prepare/begin/mine.sh"
QEMU_CONF = "etc/libvirt/qemu.conf"
GUESTS = {
    "etc/systemd/system/multi-user.target.wants/libvirt-guests.service": "",
    "usr/libexec/libvirt-guests.sh": "ON_BOOT=start\nON_SHUTDOWN=suspend",
}
"""libvirt-guests is enabled, and does what it does where no file says otherwise."""
LENT = win11(passed=(GPU,))
Case = tuple[str, Tree, str | None]


def case(name: str, tree: Tree, xml: str | None = None) -> Case:
    return name, tree, xml


MISPLACED: list[Tree] = [
    *({f"{VM}/{name}": "[pci]"} for name in ("win11.toml", "vm.tmol", "vm.toml.txt", "VM.TOML")),
    {f"{VM}/start.sh": "#!/bin/sh"},
    {f"{VM}/my-plugin.py": "#!/usr/bin/python3"},
    {f"{VM}/start.sh": "#!/bin/sh\necho usage: start.sh"},
    {f"{VM}/perpare/begin/b.sh": "#!/bin/sh"},
    {f"{VM}/Prepare/b.sh": "#!/bin/sh"},
    {f"{VM}/before/begin/b.sh": "#!/bin/sh"},
    {f"{VM}/before/begin": "#!/bin/sh"},
    {f"{VM}/begin/b.sh": "#!/bin/sh"},
    {f"{VM}/prepare/b.sh": "#!/bin/sh"},
    {f"{VM}/prepare": "#!/bin/sh"},
    {f"{VM}/prepare/end/b.sh": "#!/bin/sh"},
    {f"{VM}/release/begin/b.sh": "#!/bin/sh"},
    {f"{VM}/release/End/b.sh": "#!/bin/sh"},
]
"""What nothing uses in a VM's folder."""
IN_PLACE: list[Tree] = [
    {f"{VM}/vm.toml": "[pci]", f"{VM}/vm.toml.txt": "", f"{VM}/win11.toml": ""},
    {f"{VM}/vm.toml.bak": "[pci]", f"{VM}/vm.toml.off": "", f"{VM}/.vm.toml.swp": ""},
    {f"{VM}/README": "", f"{VM}/win11.xml": "", f"{VM}/roms/gpu.rom": "", f"{VM}/TODO.txt": ""},
    {f"{VM}/mine.py": "#!/usr/bin/python3", f"{VM}/__init__.py": ""},
    {f"{VM}/settings.toml": "a = 1", SCRIPT: '#!/bin/sh\n. "$folder/settings.toml"'},
    {f"{VM}/prepare.off/begin/x.sh": "#!/bin/sh"},
    {f"{VM}/scripts/lib.sh": "#!/bin/sh", f"{VM}/start-data/notes": ""},
    {SCRIPT: '#!/bin/sh\n"$(dirname "$0")"/../../common.sh', f"{VM}/common.sh": "#!/bin/sh"},
    {SCRIPT: "#!/bin/sh\n. ../bin/x.sh", f"{VM}/prepare/bin/x.sh": "#!/bin/sh"},
    {f"{VM}/vm.toml": f"[[process]]\ncommand = ['/{VM}/x.sh']", f"{VM}/x.sh": "#!/bin/sh"},
    {f"{HOOKS}/qemu.kept": "#!/bin/sh\nqemu.d/$1/x.sh", f"{VM}/x.sh": "#!/bin/sh"},
    {f"{VM}/{op}/{subop}/x.sh": "#!/bin/sh" for op, subop in OPERATIONS.items()},
    {f"{VM}/{op}/{subop}": "#!/bin/sh" for op, subop in OPERATIONS.items()},
    {f"{VM}/prepare/begin/sub/x.sh": "#!/bin/sh", f"{VM}/prepare/README": ""},
]
"""What is used, or may be."""

FOUND = [
    case("hook-missing", {"etc/libvirt/hooks/": ""}),
    case("hook-not-executable", {f"{HOOKS}/qemu": OURS.removeprefix("#!")}),
    case("hook-not-ours", {f"{HOOKS}/qemu": "#!/bin/sh\necho mine"}),
    case(
        "hook-is-link",
        {**APPARMOR, "opt/vh/qemu": OURS, f"{HOOKS}/qemu": "→ ../../../opt/vh/qemu"},
    ),
    case("hook-interpreter-missing", {**LIBRARY, f"{HOOKS}/qemu": OURS}),
    case("hook-interpreter-missing", {**LIBRARY, **SH, f"{HOOKS}/qemu": OURS}),
    case("hook-package-missing", {**PYTHON, f"{HOOKS}/qemu": OURS}),
    case("kept-hook-broken", {**HOOK, f"{HOOKS}/qemu.kept": "echo old"}),
    case("kept-hook-broken", {**HOOK, f"{HOOKS}/qemu.kept": "#!/usr/bin/python2"}),
    case("libvirt-not-running", {"etc/libvirt/hooks/": "", "run/systemd/system/": ""}),
    case(
        "apparmor-numa-hugepages",
        {**APPARMOR, PROFILE: "/sys/devices/system/node/node[0-9]*/meminfo r,"},
        win11(STRICT),
    ),
    case(
        "selinux-enforcing",
        {"sys/fs/selinux/enforce": "1", "run/libvirt/virtqemud-sock": ""},
    ),
    case("shutdown-saves", {**GUESTS, "etc/default/libvirt-guests": "#ON_SHUTDOWN=x"}, LENT),
    case("shutdown-saves", {**GUESTS, "etc/sysconfig/libvirt-guests": "ON_SHUTDOWN=suspend"}, LENT),
    case("shutdown-saves", {QEMU_CONF: 'auto_shutdown_try_save = "persistent"'}, LENT),
    case("libvirt-of-user", {"run/user/1000/libvirt/virtqemud-sock": ""}),
    case("libvirt-of-user", {"run/user/1000/libvirt/libvirt-sock": ""}),
    case("libvirt-of-user", {f"{FLATPAK}/win11.xml": "", f"{FLATPAK}/networks/": ""}),
    case("vm-unmanaged", NO_FOLDER, win11(passed=(GPU,))),
    case("vm-unmanaged", {f"{HOOKS}/qemu.d/Win11/": ""}, win11(passed=(GPU,))),
    case("vm-unmanaged", {f"{VM}/README": ""}, win11(passed=(GPU,))),
    case("file-unused", {f"{HOOKS}/qemu.d/vm.toml": "[pci]"}),
    case("file-unused", {f"{HOOKS}/qemu.d/win11.toml": "[pci]"}, win11()),
    *(case("file-unused", tree) for tree in MISPLACED),
    case("config-wrong", {f"{VM}/vm.toml": "[pc1]"}),
    case("config-wrong", {f"{HOOKS}/vfio-hooks.toml": "[pc1]"}),
    case("qemu-d-executable", {f"{HOOKS}/qemu.d/win11.sh": "#!/bin/sh"}),
    case("script-not-executable", {SCRIPT: "#!/bin/sh"}),
    case("script-broken", {SCRIPT: "#!/bin/sh\r\n:\r\n"}),
    case("script-broken", {SCRIPT: "\ufeff#!/bin/sh\n"}),
    case("script-broken", {SCRIPT: "→ ../../gone.sh"}),
    case("script-broken", {SCRIPT: "#!/bin/sh\nif true; then\n"}),
    case("script-broken", {SCRIPT: "#!/usr/bin/env bash\n(\n"}),
    case("script-broken", {SCRIPT: "if true; then\n"}),
    case("script-broken", {SCRIPT: "#!/bin/zsh\n", "usr/share/": ""}),
    case("script-without-shell", {SCRIPT: "echo mine", "usr/share/": ""}),
    case("script-calls-virsh", {SCRIPT: "#!/bin/sh\nvirsh -q dumpxml win11 > /tmp/x"}),
    case("script-calls-virsh", {SCRIPT: '#!/bin/sh\nx="$(/usr/bin/virsh domstate win11)"'}),
    case("script-calls-virsh", {SCRIPT: "#!/bin/sh\n/opt/libvirt/bin/virsh start win10"}),
    case("script-calls-virsh", {f"{HOOKS}/qemu.kept": "#!/usr/bin/python3\nimport libvirt"}),
    case("script-calls-nodedev", {SCRIPT: "#!/bin/sh\nvirsh nodedev-detach pci_0000_04_00_0"}),
    case("script-calls-nodedev", {SCRIPT: "#!/bin/sh\n/bin/virsh -c qemu:///system nodedev-list"}),
    case("journal-damaged", {FILE: "{}\n{}"}),
    case("journal-stale", {FILE: JOURNAL, "run/libvirt/qemu/": ""}),
    case("journal-stale", {FILE: TWO_CLAIMS, "run/libvirt/qemu/": ""}),
]
SILENT = [
    case("hook-missing", HOOK),
    case("hook-missing", {"etc/libvirt/qemu/win11.xml": ""}),
    case("libvirt-not-running", {"etc/libvirt/qemu/": "", "run/systemd/system/": ""}),
    case("hook-not-executable", HOOK),
    case("hook-not-ours", HOOK),
    case("hook-is-link", {**APPARMOR, **HOOK}),
    case("hook-is-link", {"opt/vh/qemu": OURS, f"{HOOKS}/qemu": "→ ../../../opt/vh/qemu"}),
    case("hook-interpreter-missing", HOOK),
    case("hook-package-missing", HOOK),
    case("kept-hook-broken", {**HOOK, f"{HOOKS}/qemu.kept": "#!/usr/bin/python3"}),
    case(
        "libvirt-not-running",
        {"etc/libvirt/hooks/": "", "run/systemd/system/": "", "run/libvirt/libvirt-sock": ""},
    ),
    case(
        "apparmor-numa-hugepages",
        {**APPARMOR, PROFILE: "", f"{PROFILE}.d/mine": "/sys/devices/system/node/*/cpumap r,"},
        win11(STRICT),
    ),
    case(
        "apparmor-numa-hugepages",
        {**APPARMOR, PROFILE: "@{sys}/devices/system/node/node[0-9]*/cpumap r,"},
        win11(STRICT),
    ),
    case("apparmor-numa-hugepages", {**APPARMOR, PROFILE: ""}, win11()),
    case("libvirt-of-user", {"run/user/1000/bus": "", "run/libvirt/libvirt-sock": ""}),
    case(
        "libvirt-of-user", {f"{FLATPAK}/networks/": "", "home/bob/.config/libvirt/qemu/x.xml": ""}
    ),
    case(
        "hook-missing",
        {**LIBRARY, **PYTHON, f"{HOOKS}/": "", "var/lib/libvirt/hooks/qemu.d/vfio-hooks": OURS},
    ),
    case(
        "selinux-enforcing",
        {"sys/fs/selinux/enforce": "1", "run/libvirt/libvirt-sock": ""},
    ),
    case("shutdown-saves", GUESTS, win11()),
    case("shutdown-saves", {**GUESTS, "etc/default/libvirt-guests": "ON_SHUTDOWN=shutdown"}, LENT),
    case("shutdown-saves", {QEMU_CONF: '#auto_shutdown_try_save = "all"'}, LENT),
    case(
        "shutdown-saves",
        {QEMU_CONF: 'auto_shutdown_try_save = "all"\nauto_shutdown_try_shutdown = "all"'},
        LENT,
    ),
    case("vm-unmanaged", {f"{VM}/vm.toml": "[pci]"}, win11(passed=(GPU,))),
    case("vm-unmanaged", NO_FOLDER, win11()),
    case("config-unsafe", {f"{VM}/vm.toml": "[pci]", SCRIPT: "#!/bin/sh"}),
    case("config-wrong", {f"{VM}/vm.toml": "[pci]"}),
    case("vm-unmanaged", {SCRIPT: "#!/bin/sh"}, win11(passed=(GPU,))),
    case("qemu-d-executable", {f"{HOOKS}/qemu.d/README": "", SCRIPT: "#!/bin/sh"}),
    case("file-unused", {f"{HOOKS}/qemu.d/README": "", f"{HOOKS}/qemu.d/lib/data.txt": ""}),
    case("file-unused", {f"{HOOKS}/qemu.d/other/start.sh": "#!/bin/sh"}, win11()),
    *(case("file-unused", tree) for tree in IN_PLACE),
    case("script-not-executable", {SCRIPT: "#!/bin/sh"}),
    case("script-not-executable", {f"{VM}/prepare/begin/notes": "to do"}),
    case("script-broken", {SCRIPT: "#!/bin/sh\n:\n", "usr/share/": "", "bin/sh": ""}),
    case("script-broken", {SCRIPT: "#!/usr/bin/python3\nif True:\n"}),
    case("script-broken", {SCRIPT: "[[ $1 =~ x ]] || declare -A a=([b]=c)"}),
    case("script-without-shell", {SCRIPT: "echo mine", "usr/share/": "", "bin/bash": ""}),
    case("script-without-shell", {SCRIPT: "echo mine"}),
    case("script-without-shell", {SCRIPT: "#!/bin/sh", "usr/share/": ""}),
    case("script-calls-virsh", {SCRIPT: "#!/bin/sh\n# virsh start win11\n/opt/virsh-like"}),
    case("script-calls-virsh", {SCRIPT: "#!/bin/sh\nvirsh nodedev-detach pci_0000_04_00_0"}),
    case("script-calls-virsh", {SCRIPT: "#!/bin/sh\n/usr/bin/virsh -c qemu:///system net-list"}),
    case("script-calls-virsh", {SCRIPT: "#!/bin/sh\nexec >> /var/log/virsh.log\n./virsh-mine"}),
    case("script-calls-nodedev", {SCRIPT: "#!/bin/sh\nvirsh start win10"}),
    case("journal-damaged", {FILE: JOURNAL}),
    case("journal-stale", {FILE: JOURNAL, "run/libvirt/qemu/win11.xml": ""}),
]
NOT_IN_A_TREE = {
    "start-refused",
    "script-doubles-table",
    "hook-dependencies",
    "command-dependencies",
    "hook-not-seen",
    "config-unsafe",
}
"""What the tests at the end of this file have the cases of, or one of them."""
NAMES = {rule.name for rule in rules() if rule.area == "hook"}


def about_hook(asked: Patient) -> dict[str, Finding]:
    return {one.rule.name: one for one in examine(asked) if one.rule.area == "hook"}


def look(root: Path, one: Case) -> dict[str, Finding]:
    _, tree, xml = one
    root.chmod(0o755)
    return about_hook(patient(grow(root, tree), xml))


CASES = named(FOUND, [one[0] for one in FOUND])


@pytest.mark.parametrize(("name", "one"), CASES, ids=[name for name, _ in CASES])
def test_found(tmp_path: Path, name: str, one: Case) -> None:
    if one[0] == "script-not-executable":
        (grow(tmp_path, one[1]) / SCRIPT).chmod(0o644)
        found = about_hook(patient(tmp_path))
    else:
        found = look(tmp_path, one)
    assert one[0] in found
    assert "could not be looked at" not in found[one[0]].seen.text
    compare("hook", name, told([found[one[0]]], tmp_path))


@pytest.mark.parametrize("one", SILENT, ids=lambda one: one[0])
def test_silent(tmp_path: Path, one: Case) -> None:
    assert one[0] not in look(tmp_path, one)


@pytest.mark.parametrize("prefix", ["/usr/local", "/var/opt/vfio-hooks", "/etc/vfio-hooks"])
def test_selinux_s_advice_names_the_folder_that_is_installed(tmp_path: Path, prefix: str) -> None:
    enforcing: Tree = {"sys/fs/selinux/enforce": "1", "run/libvirt/virtqemud-sock": ""}
    ours = OURS.replace("/usr/local", prefix)
    tree: Tree = {**PYTHON, **enforcing, f"{HOOKS}/qemu": ours}
    told = look(tmp_path, case("selinux-enforcing", tree))["selinux-enforcing"].seen.do
    assert told.startswith(f"restorecon -R {tmp_path}/{HOOKS} {prefix}/lib/vfio-hooks; ")


def test_vms_of_virt_manager_s_flatpak_belong_to_the_system(tmp_path: Path) -> None:
    tree: Tree = {f"{FLATPAK}/win11.xml": "", f"{FLATPAK}/win10.xml": ""}
    seen = look(tmp_path, case("libvirt-of-user", tree))["libvirt-of-user"].seen
    assert seen.text.endswith(
        "user alice has VMs in virt-manager's flatpak, qemu:///session: win10, win11"
    )
    assert "belongs in qemu:///system" in seen.do


def test_what_is_unused_is_told_once_with_what_is_meant(tmp_path: Path) -> None:
    for number, tree in enumerate(MISPLACED):
        root = tmp_path / str(number)
        found = examine(patient(grow(root, tree)))
        (one,) = (one for one in found if one.rule.name == "file-unused")
        told = f"{one.seen.text} {one.seen.do}"
        name = next(iter(tree)).removeprefix(f"{VM}/").split("/")[0]
        assert f"{VM}/{name}" in one.seen.text
        if name in ("perpare", "Prepare"):
            assert "did you mean prepare?" in told


@pytest.mark.parametrize("folder", ["/usr/local/lib/vfio-hooks", "/usr/lib/vfio-hooks"])
def test_selinux_is_told_of_the_folder_that_the_hook_uses(tmp_path: Path, folder: str) -> None:
    enforcing = {"sys/fs/selinux/enforce": "1", "run/libvirt/virtqemud-sock": ""}
    hook = OURS.replace("/usr/local/lib/vfio-hooks", folder)
    found = look(tmp_path, case("", {**enforcing, **PYTHON, f"{HOOKS}/qemu": hook}))
    assert f"{HOOKS} {folder}; check with" in found["selinux-enforcing"].seen.do


def test_a_folder_whose_name_is_nearly_the_vms(tmp_path: Path) -> None:
    found = look(tmp_path, case("", {f"{HOOKS}/qemu.d/Win11/": ""}, win11(passed=(GPU,))))
    assert found["vm-unmanaged"].seen.text.endswith("/qemu.d/win11 (did you mean Win11?)")


def test_every_rule_has_both() -> None:
    assert {one[0] for one in FOUND} | NOT_IN_A_TREE == NAMES
    compare_names("hook", [name for name, _ in CASES])
    assert {one[0] for one in SILENT} | NOT_IN_A_TREE == NAMES


def test_a_whole_installation_has_no_finding(tmp_path: Path) -> None:
    whole = {**HOOK, f"{VM}/vm.toml": "[pci]", SCRIPT: "#!/bin/sh"}
    assert look(tmp_path, ("", whole, win11(passed=(GPU,)))) == {}


@pytest.mark.parametrize("name", ["vm.toml", "mine.py", "prepare/begin/mine.sh"])
def test_what_others_can_write(tmp_path: Path, name: str) -> None:
    tree = {f"{VM}/vm.toml": "[pci]", f"{VM}/mine.py": "", SCRIPT: "#!/bin/sh"}
    (grow(tmp_path, tree) / VM / name).chmod(0o777)
    found = about_hook(patient(tmp_path))
    assert f"{name}: users other than its owner may write to it" in found["config-unsafe"].seen.text
    assert found["config-unsafe"].seen.do.endswith(f"chmod go-w {tmp_path}/{VM}/{name}")
    told = found["config-wrong"].seen.text if "config-wrong" in found else ""
    assert "users other than its owner" not in told


@pytest.mark.parametrize("name", ["hook-dependencies", "command-dependencies", ""])
def test_dependencies_are_those_of_the_hooks_own_interpreter(tmp_path: Path, name: str) -> None:
    python = tmp_path / "python3"
    missing = {"hook-dependencies": "tomllib", "command-dependencies": "lxml"}.get(name, "none")
    fails = f"case $* in *{missing}*) echo No module named {missing} >&2; exit 1; esac"
    tree = {
        "python3": f"#!/bin/sh\n{fails}",
        f"{HOOKS}/qemu": OURS.replace("/usr/bin/python3", str(python)),
    }
    asked = replace(patient(grow(tmp_path, tree)), host=Host())
    found = {key: one for key, one in about_hook(asked).items() if "dependencies" in key}
    assert list(found) == [name] * bool(name)
    if name:
        assert f"No module named {missing}" in found[name].seen.text


@pytest.mark.parametrize(
    ("looked", "written", "expected"),
    [
        (600, {"qemu": 60}, True),
        (60, {"qemu": 600}, False),
        # An upgrade wrote it anew, and libvirt knows it since the first installation.
        (600, {"qemu": 60, "qemu.kept": 6000}, False),
    ],
)
def test_a_daemon_that_looked_too_early(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    looked: int,
    written: dict[str, int],
    expected: bool,
) -> None:
    """Seconds ago, both."""
    stamp = int((time.monotonic() - looked) * 1_000_000)
    told = f"ActiveState=active\\nStateChangeTimestampMonotonic={stamp}"
    tree = {
        "bin/systemctl": f"#!/bin/sh\nprintf '{told}\\n'",
        "run/libvirt/libvirt-sock": "",
        **{f"{HOOKS}/{name}": OURS for name in written},
    }
    grow(tmp_path, tree)
    for name, ago in written.items():
        os.utime(tmp_path / HOOKS / name, (0, time.time() - ago))
    monkeypatch.setattr(commands, "SEARCH", f"{tmp_path}/bin")

    class Here(Host):
        """This machine, with the sockets of the test's daemon."""

        is_this_machine = True

    found = about_hook(replace(patient(tmp_path), host=Here(str(tmp_path))))
    assert ("hook-not-seen" in found) == expected


EACH = {name: text for one in (*SILENT, *FOUND) for name, text in one[1].items()}
EVERYTHING = {
    name: text
    for name, text in EACH.items()
    if not any(other.startswith(f"{name}/") for other in EACH)
}
FILES = sorted(name for name in EVERYTHING if not name.endswith("/"))
GARBAGE = st.sampled_from(["", "\x00\xff", "#!", "[", "{}", "→ /nowhere", "→ .", "→ qemu"])


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(FILES), GARBAGE | st.none(), min_size=1, max_size=8))
def test_hooks_of_nonsense(changed: dict[str, str | None]) -> None:
    tree = {name: text for name, text in EVERYTHING.items() if changed.get(name, "") is not None}
    tree |= {name: text for name, text in changed.items() if text is not None}
    with tempfile.TemporaryDirectory() as folder:
        for finding in look(Path(folder), ("", tree, win11(STRICT, (GPU,)))).values():
            assert finding.seen.text
            assert finding.seen.do
