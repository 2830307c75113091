"""The write plugin: which paths it takes, and what it makes of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.knobs import Knob
from vfio_hooks.knobs.file import File
from vfio_hooks.knobs.trigger import Trigger
from vfio_hooks.plugins.write import Options, plan
from vfio_hooks.sharing import Once, Override
from vfio_hooks.steps import Step

VM = Domain("vm", "u")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A tree with a few values, a link inside and links that lead out."""
    files = {
        "proc/sys/vm/dirty_ratio": "20\n",
        "proc/sys/net/ipv4/conf/eth0.100/forwarding": "0\n",
        "proc/sys/net/ipv4/tcp_rmem": "4096\t131072\t6291456\n",
        "sys/devices/pci0/net/eth0/mtu": "1500\n",
        "etc/shadow": "secret\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "sys/class/net").mkdir(parents=True)
    (tmp_path / "sys/class/net/eth0").symlink_to("../../devices/pci0/net/eth0")
    (tmp_path / "sys/out").symlink_to("../etc")
    (tmp_path / "sys/absolute").symlink_to("/etc")
    yield Host(str(tmp_path))


def planned(host: Host, **options: Any) -> Step:
    (step,) = plan(Event("vm", "prepare"), VM, Options(**options), host)
    return step


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("vm.dirty_ratio", "/proc/sys/vm/dirty_ratio"),
        ("vm/dirty_ratio", "/proc/sys/vm/dirty_ratio"),
        ("/proc/sys/vm/dirty_ratio", "/proc/sys/vm/dirty_ratio"),
        ("net.ipv4.conf.eth0/100.forwarding", "/proc/sys/net/ipv4/conf/eth0.100/forwarding"),
        ("net/ipv4/conf/eth0.100/forwarding", "/proc/sys/net/ipv4/conf/eth0.100/forwarding"),
        ("/sys/class/net/eth0/mtu", "/sys/devices/pci0/net/eth0/mtu"),
    ],
)
def test_a_value_has_one_name_however_it_is_written(host: Host, path: str, file: str) -> None:
    step = planned(host, path=path, value=5)
    assert (step.knob, step.share) == (File(file), Override("5"))


def test_white_space_is_the_kernels() -> None:
    step = planned(Host(), path="kernel.printk", value=" 4  4 1\t7 ")
    assert step.share == Override("4 4 1 7")


def test_once_needs_no_value_to_put_back(host: Host) -> None:
    step = planned(host, path="vm.dirty_ratio", value=3, once=True)
    knob: Knob = Trigger("/proc/sys/vm/dirty_ratio")
    assert (step.knob, step.share) == (knob, Once("3"))


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/sys/../etc/passwd",
        "/proc/sys/../kcore",
        "/proc/sysrq-trigger",
        "/sys/./x",
        "/sys//x",
        "/sys/",
        "/sys",
        "/",
        "",
        "../etc/passwd",
        "vm/../../../etc/passwd",
        "vm..swappiness",
    ],
)
def test_paths_that_are_elsewhere(path: str) -> None:
    with pytest.raises(ValueError, match="path must be a file below /sys or /proc/sys"):
        Options(path=path, value="1")


@given(st.text(st.sampled_from("abc./"), max_size=12))
def test_every_path_that_is_taken_stays_below(path: str) -> None:
    for start in ("", "/sys/", "/proc/sys/", "/"):
        try:
            options = Options(path=start + path, value="1")
        except ValueError:
            continue
        with pytest.raises(HookError, match=r"/(sys|proc/sys)/.*no such file"):
            list(plan(Event("vm", "prepare"), VM, options, Host("/nonexistent")))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/sys/out/shadow", "which is not below /sys or /proc/sys"),
        ("/sys/absolute/shadow", "no such file|which is not below"),
        ("vm.dirty_rtio", "no such file"),
        ("net.ipv4", "cannot be read, so it could not be restored: Is a directory"),
    ],
)
def test_what_is_found_on_the_host_decides(host: Host, path: str, words: str) -> None:
    with pytest.raises(HookError, match=words):
        planned(host, path=path, value=1)


def test_only_prepare_plans(host: Host) -> None:
    options = Options(path="vm.dirty_ratio", value=1)
    assert not list(plan(Event("vm", "start"), VM, options, host))
