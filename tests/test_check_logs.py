"""Rules that read what others are made of: a VM's scripts, and the kernel's log."""

from pathlib import Path

import pytest

from tests.patient import grow, patient, win11
from vfio_hooks.check import examine
from vfio_hooks.check.host import logged
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.record import replace
from vfio_hooks.why.lines import Line

pytestmark = pytest.mark.real_processes
VM = "etc/libvirt/hooks/qemu.d/win11"
SCRIPT = "#!/bin/sh\nX=8192\necho $X > /proc/sys/vm/nr_hugepages\nsystemctl stop gdm\n"


def doubled(root: Path, script: str, tables: str) -> list[str]:
    place = f"{VM}/prepare/begin/start.sh"
    grow(root, {f"{VM}/vm.toml": "", place: script})
    (root / place).chmod(0o755)
    found = examine(patient(root, win11(), tables))
    return [one.seen.text for one in found if one.rule.name == "script-doubles-table"]


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ("hugepages", ["start.sh:3: the script does the same as [hugepages]"]),
        (
            "hugepages session",
            [
                "start.sh:3: the script does the same as [hugepages]",
                "start.sh:4: the script does the same as [session]",
            ],
        ),
        ("pci", []),
    ],
)
def test_a_script_that_does_what_a_table_does(
    tmp_path: Path, tables: str, expected: list[str]
) -> None:
    assert doubled(tmp_path, SCRIPT, tables) == expected


def test_a_script_that_only_undoes_is_told_by_migrate_alone(tmp_path: Path) -> None:
    assert doubled(tmp_path, "#!/bin/sh\nsleep 5\nmodprobe vfio-pci\n", "pci") == []


SAID = (
    Line(1, "kernel", "pcieport 0000:00:01.1: AER: device recovery failed"),
    Line(2, "kernel", "vfio-pci 0000:03:00.0: resetting"),
    # Not a fault of the host, but of a start.
    Line(3, "kernel", "vfio-pci 0000:03:00.0: BAR 0: can't reserve [mem 0xc0000000-0xcfffffff]"),
)


def test_what_the_kernel_has_said_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logged, "of_boot", lambda boot: list(SAID) * 2)
    here = replace(patient(tmp_path), host=Host("/"))
    (seen,) = logged.said.look(here)
    assert seen.text.startswith("pcieport 0000:00:01.1: AER: device recovery failed (2 times): ")
    assert list(logged.said.look(patient(tmp_path))) == []


def test_a_log_that_only_root_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(boot: int) -> list[Line]:
        raise HookError("the systemd journal cannot be read")

    monkeypatch.setattr(logged, "of_boot", refuse)
    assert list(logged.said.look(replace(patient(tmp_path), host=Host("/")))) == []
