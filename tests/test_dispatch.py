"""The dispatcher as a process, under the contract with libvirt."""

import os
import signal
from pathlib import Path

import pytest

from tests.hosttree import add_pci, domain_xml, gpu_host
from tests.imports import imported
from tests.sealed import Sealed, can_seal
from vfio_hooks.wait import until

pytestmark = [
    pytest.mark.real_processes,
    pytest.mark.skipif(not can_seal(), reason="needs root and mount namespaces"),
]
OPS = ("prepare", "start", "started", "stopped", "release", "migrate", "restore", "reconnect")
TELLS = ("prepare", "start")
"""The operations that may fail."""


@pytest.fixture
def sealed(memory: Path) -> Sealed:
    return Sealed(gpu_host(memory))


def test_an_evening_of_a_managed_vm(sealed: Sealed) -> None:
    sealed.manage("win11")
    for op in ("prepare", "start", "started", "stopped", "release"):
        result = sealed.hook("win11", op, domain_xml())
        assert (result.code, result.stdout, result.stderr) == (0, b"", "")
        assert bool(sealed.journals()) == (op != "release")
    assert any("0000:04:00.1" in line for line in sealed.logged())


@pytest.mark.parametrize("op", [*OPS, "attach", "unheard-of"])
@pytest.mark.parametrize("xml", [b"", b"\xff\xfe<", b"<domain>", b"<network/>"])
def test_exit_codes(sealed: Sealed, op: str, xml: bytes) -> None:
    """Bad XML stops a start and nothing else. For an unmanaged VM it does not matter."""
    sealed.manage("win11")
    result = sealed.hook("win11", op, xml)
    assert result.code == (op in TELLS)
    assert result.stdout == b""
    assert result.stderr.count("\n") == (op in TELLS)
    assert "Traceback" not in result.stderr
    unmanaged = sealed.hook("other", op, xml)
    assert (unmanaged.code, unmanaged.stdout, unmanaged.stderr) == (0, b"", "")


FAULTS = {
    "absent device": (
        "[pci]\n",
        ("0000:09:00.0",),
        "pci: 0000:09:00.0: the domain is given this device",
    ),
    "half a group": ("[pci]\n", ("0000:04:00.0",), "pci: IOMMU group 7 cannot be passed through"),
    "no such key": ("[pci]\ngruop = 'bind'\n", (), "qemu.d/win11/vm.toml"),
    "no such driver": ("[pci]\ndriver = 'no_vfio'\n", ("0000:05:00.0",), "pci: 'no_vfio' is not"),
    "a host's driver": ("[pci]\ndriver = 'nvme'\n", ("0000:05:00.0",), "toml:2: [pci]: driver: "),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_told_before_anything_is_touched(
    sealed: Sealed, fault: tuple[str, tuple[str, ...], str]
) -> None:
    toml, functions, told = fault
    (sealed.root / "sys/module/no_vfio").mkdir(parents=True)
    sealed.manage("win11", toml)
    result = sealed.hook("win11", "prepare", domain_xml(functions=functions, managed="no"))
    assert result.code == 1
    assert result.stderr.startswith("vfio-hooks: ")
    assert told in result.stderr
    assert result.stderr.count("\n") == 1
    assert not sealed.journals()


def test_a_device_of_another_vm_is_refused_by_its_name(sealed: Sealed) -> None:
    sealed.manage("win11")
    sealed.manage("linux")
    other = "6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c12"
    assert sealed.hook("win11", "prepare", domain_xml()).code == 0
    result = sealed.hook("linux", "prepare", domain_xml("linux", other))
    assert result.code == 1
    assert "0000:04:00.0: VM win11 has it" in result.stderr
    assert sealed.hook("linux", "release", domain_xml("linux", other)).code == 0
    assert len(sealed.journals()) == 1


def test_what_only_some_kernels_refuse_is_logged(sealed: Sealed) -> None:
    """A patched one starts a VM with a device that the firmware reaches memory through."""
    regions = sealed.root / "sys/kernel/iommu_groups/8/reserved_regions"
    regions.write_text("0xbdf83000 0xbdf84fff direct\n")
    sealed.manage("win11")
    assert sealed.hook("win11", "prepare", domain_xml(functions=("0000:05:00.0",))).code == 0
    assert (
        sum("the firmware has to be able to reach memory" in line for line in sealed.logged()) == 1
    )


def test_a_failure_half_way_is_undone(sealed: Sealed) -> None:
    """The second function has no driver that would let go: in a folder nobody unbinds it."""
    add_pci(sealed.root, "0000:06:00.0", None, "9")
    before = _tree(sealed.root / "sys")
    sealed.manage("win11", "[pci]\ntimeout = 0.2\n")
    functions = ("0000:05:00.0",)
    result = sealed.hook("win11", "prepare", domain_xml(functions=functions, managed="no"))
    assert result.code == 1
    assert "0000:05:00.0" in result.stderr
    assert result.stderr.count("\n") == 1
    after = _tree(sealed.root / "sys")
    # The files that stand for the driver's own keep what was written to them.
    changed = {name for name in after if after[name] != before.get(name)}
    assert all(name.endswith(("unbind", "drivers_probe", "driver_override")) for name in changed)


def test_the_kept_hook_runs_as_before(sealed: Sealed) -> None:
    kept = sealed.hooks / "qemu.kept"
    kept.write_text('#!/bin/sh\necho "$0 $*"; cat; exit 7\n')
    kept.chmod(0o755)
    sealed.manage("win11")
    for vm in ("win11", "other vm"):
        result = sealed.hook(vm, "restore", "<domain/>")
        assert (
            result.stdout.decode()
            == f"/etc/libvirt/hooks/qemu.kept {vm} restore begin -\n<domain/>"
        )
        assert result.code == 7
    result = sealed.hook("win11", "prepare", domain_xml())
    assert result.code == 7
    assert domain_xml() in result.stdout.decode()


@pytest.mark.parametrize("package", ["whole", "broken"])
@pytest.mark.parametrize("vm", ["win11", "other"])
def test_the_kept_hook_ignores_no_signal(
    sealed: Sealed, memory: Path, vm: str, package: str
) -> None:
    """Python ignores SIGPIPE, with which `… | head -1` ends."""
    kept = sealed.hooks / "qemu.kept"
    kept.write_text("#!/bin/sh\ngrep SigIgn: /proc/self/status\n")
    kept.chmod(0o755)
    sealed.manage("win11")
    if package == "broken":
        sealed.install(memory / "library")
    _, ignored = sealed.hook(vm, "release").stdout.split()
    # Others may be ignored from the beginning, as in a job of a shell's in the background.
    assert not int(ignored, 16) & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)


@pytest.mark.parametrize("text", ["#!/nowhere\n", "no interpreter"])
@pytest.mark.parametrize("vm", ["win11", "other"])
def test_a_kept_hook_that_cannot_be_run(sealed: Sealed, vm: str, text: str) -> None:
    kept = sealed.hooks / "qemu.kept"
    kept.write_text(text)
    kept.chmod(0o755)
    sealed.manage("win11")
    for op in OPS:
        result = sealed.hook(vm, op, domain_xml(vm))
        assert (result.code, result.stdout) == (op in TELLS, b"")
        told = "vfio-hooks: /etc/libvirt/hooks/qemu.kept: cannot be run: "
        assert result.stderr.startswith(told if op in TELLS else "")
        assert result.stderr.count("\n") == (op in TELLS)
        assert any("qemu.kept: cannot be run" in line for line in sealed.logged())


@pytest.mark.parametrize("broken", ["", "raise ImportError('gone')", "def main(:"])
def test_a_broken_package_only_stops_vms_that_want_it(
    sealed: Sealed, memory: Path, broken: str
) -> None:
    library = memory / "library"
    (library / "vfio_hooks").mkdir(parents=True)
    if broken:
        (library / "vfio_hooks/dispatch.py").write_text(broken)
    sealed.install(library)
    sealed.manage("win11")
    for op in OPS:
        result = sealed.hook("win11", op, domain_xml())
        assert result.code == (op in TELLS)
        assert result.stderr.count("\n") == (op in TELLS)
        assert sealed.hook("other", op, domain_xml()).code == 0


def test_the_folder_may_go_while_the_vm_runs(sealed: Sealed) -> None:
    folder = sealed.manage("win11")
    assert sealed.hook("win11", "prepare", domain_xml()).code == 0
    (folder / "vm.toml").unlink()
    folder.rmdir()
    assert sealed.hook("win11", "release", domain_xml()).code == 0
    assert not sealed.journals()


def test_dry_run_changes_nothing(sealed: Sealed) -> None:
    sealed.manage("win11", "dry_run = true\n[pci]\n")
    assert sealed.hook("win11", "prepare", domain_xml(managed="no")).code == 0
    assert not sealed.journals()
    assert any("would be: pci: /sys/bus/pci/devices/0000:04:00.0" in x for x in sealed.logged())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_in_the_middle(sealed: Sealed, number: signal.Signals) -> None:
    """Caught while it waits for a driver: undone at once, or by the next event after SIGKILL."""
    # A signal that is caught is heeded when the wait is over.
    seconds = 60 if number == signal.SIGKILL else 3
    sealed.manage("win11", f"[pci]\ntimeout = {seconds}\n")
    xml = domain_xml(functions=("0000:05:00.0",), managed="no")
    process = sealed.popen("/etc/libvirt/hooks/qemu", "win11", "prepare", "begin", "-")
    assert process.stdin is not None
    process.stdin.write(xml.encode())
    process.stdin.close()
    assert until(lambda: bool(sealed.journals()), 60)
    os.kill(process.pid, number)
    assert process.wait(60) == (-number if number == signal.SIGKILL else 1)
    assert bool(sealed.journals()) == (number == signal.SIGKILL)
    sealed.hook("win11", "release", xml)
    assert not any("Traceback" in line for line in sealed.logged())


def test_not_root_is_nothing_to_us(sealed: Sealed) -> None:
    sealed.manage("win11")
    result = sealed.run(
        *("setpriv", "--reuid=65534", "--clear-groups"),
        *("/etc/libvirt/hooks/qemu", "win11", "prepare", "begin", "-"),
    )
    assert (result.code, result.stdout, result.stderr) == (0, b"", "")


def cut_off(sealed: Sealed, vm: str, uuid: str) -> None:
    """The state after a prepare whose hook was killed at the very end."""
    sealed.manage(vm)
    assert sealed.hook(vm, "prepare", domain_xml(vm, uuid)).code == 0
    journal = sealed.state / f"{uuid}.journal"
    lines = journal.read_text().splitlines(keepends=True)
    assert "end" in lines.pop()
    journal.write_text("".join(lines))


CUT_OFF = "6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7cff"


@pytest.mark.parametrize("toml", ["[pci]\n", "dry_run = true\n[pci]\n"])
def test_what_was_cut_off_is_undone_before_another_start_is_judged(
    sealed: Sealed, toml: str
) -> None:
    """Both VMs are given the same card; with executables the plan is made before they run."""
    cut_off(sealed, "other", CUT_OFF)
    begin = sealed.manage("win11", toml) / "prepare/begin"
    begin.parent.mkdir()
    begin.write_text("#!/bin/sh\n")
    begin.chmod(0o755)
    result = sealed.hook("win11", "prepare", domain_xml())
    assert (result.code, result.stderr) == (0, "")
    assert f"{CUT_OFF}.journal" not in sealed.journals()
    assert not any("would fail" in line for line in sealed.logged())


@pytest.mark.parametrize("vm", ["win11", "unmanaged"])
def test_what_was_cut_off_is_undone_at_the_end_of_another_vm(sealed: Sealed, vm: str) -> None:
    cut_off(sealed, "other", CUT_OFF)
    sealed.manage("win11")
    assert sealed.hook(vm, "release", domain_xml(vm)).code == 0
    assert not sealed.journals()


def test_undoing_needs_neither_configuration_nor_plugins() -> None:
    """An undo has to work with a broken plugin, and with a half upgraded package."""
    modules = imported("import vfio_hooks.engine")
    rooms = {name.split(".")[1] for name in modules if name.startswith("vfio_hooks.")}
    assert "engine" in rooms
    assert not rooms & {"config", "plugins", "domain", "check", "cli", "manual"}


def test_what_an_unmanaged_vm_pays_for() -> None:
    """No import but the dispatcher's own; `os` is part of Python's frozen start-up."""
    code = "from vfio_hooks.dispatch import main; main(['qemu', 'x', 'prepare', 'begin', '-'])"
    assert imported(code) <= {
        *("vfio_hooks", "vfio_hooks.dispatch", "os", "stat", "_stat", "posixpath", "genericpath"),
        *("os.path", "_collections_abc", "abc", "_abc"),
    }


def _tree(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): str(path.readlink()) if path.is_symlink() else path.read_text()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }
