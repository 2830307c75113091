"""Small knobs: what each writes, takes for a failure, and shows to people."""

import errno
import os
from pathlib import Path

import pytest

from tests.fakes.kernel import Kernel, a_host
from vfio_hooks.errors import Gone, HookError, Immovable
from vfio_hooks.host import Host
from vfio_hooks.host.cgroup import ROOT
from vfio_hooks.knobs import Knob
from vfio_hooks.knobs.allowed_cpus import AllowedCpus
from vfio_hooks.knobs.announced import ANNOUNCED, WITHDRAWN, Announced
from vfio_hooks.knobs.base import NO_DRIVER
from vfio_hooks.knobs.boot_picture import BootPicture
from vfio_hooks.knobs.command import Command
from vfio_hooks.knobs.console import BOUND, UNBOUND, Console
from vfio_hooks.knobs.controller import OFF, ON, Controller
from vfio_hooks.knobs.cpu_set import loses_offline
from vfio_hooks.knobs.file import File
from vfio_hooks.knobs.lent_power import LentPower
from vfio_hooks.knobs.module import LOADED, Module
from vfio_hooks.knobs.partition import Partition
from vfio_hooks.knobs.platform_driver import PlatformDriver
from vfio_hooks.knobs.trigger import Trigger

CARD = "/sys/bus/pci/devices/0000:04:00.0/drm/card0"
SLICE = AllowedCpus("user.slice")


@pytest.mark.parametrize(
    ("knob", "value", "text"),
    [
        (Announced(CARD), WITHDRAWN, "announced as gone, so that programs close it"),
        (Announced(CARD), ANNOUNCED, "programs may use it"),
        (Announced(CARD), "does not exist yet", "does not exist yet"),
        (BootPicture("0000:04:00.0"), "none", "given up"),
        (File("/sys/a"), "", "(not set)"),
    ],
)
def test_what_people_are_shown_of_a_value(knob: Knob, value: str, text: str) -> None:
    assert knob.shows(value) == text


@pytest.mark.parametrize(
    ("title", "text"), [("", "switch 'a lamp' off"), ("it goes dark", "it goes dark")]
)
def test_what_undoes_a_command(title: str, text: str) -> None:
    knob = Command(("switch", "a lamp", "on"), ("switch", "a lamp", "off"), undo_title=title)
    assert knob.undo_text == text


@pytest.mark.parametrize(
    ("unit", "state", "died"),
    [
        ("", "active", ""),
        ("lamp.service", "active", ""),
        ("lamp.service", "inactive", "lamp.service"),
        ("lamp.service", None, "lamp.service"),
    ],
)
def test_a_service_that_a_command_left_running(unit: str, state: str | None, died: str) -> None:
    kernel = a_host()
    if state:
        kernel.units["lamp.service"] = state
    assert Command(("true",), ("true",), unit=unit).died(kernel) == died


def test_of_a_captured_host_no_service_is_known(tmp_path: Path) -> None:
    knob = Command(("true",), ("true",), unit="lamp.service")
    assert knob.died(Host(str(tmp_path))) == ""


class Strict(Kernel):
    """A kernel that notes each write, and refuses it with a number of errno."""

    def __init__(self, number: int = 0) -> None:
        super().__init__()
        self.number = number
        self.written: list[str] = []

    def write(self, name: str, text: str) -> None:
        self.written.append(text)
        if self.number:
            raise OSError(self.number, os.strerror(self.number), name)
        known = {word for word in self.files[name].split() if word != text[1:]}
        self.files[name] = " ".join([*known, *([text[1:]] if text[0] == "+" else [])]) + "\n"


def test_a_trigger_is_written() -> None:
    """Nothing can be read back, so the write alone shows it."""
    kernel = a_host()
    Trigger("/proc/sys/vm/drop_caches").write(kernel, "3")
    assert kernel.triggered == ["/proc/sys/vm/drop_caches 3"]


PLATFORM = "/sys/bus/platform"
FRAMEBUFFER = f"{PLATFORM}/devices/efi-framebuffer.0"


@pytest.mark.parametrize("value", [NO_DRIVER, "efi-framebuffer"])
@pytest.mark.parametrize("before", [NO_DRIVER, "efi-framebuffer"])
def test_a_platform_device_gets_or_loses_its_driver(before: str, value: str) -> None:
    kernel, knob = a_host(), PlatformDriver("efi-framebuffer.0")
    knob.write(kernel, NO_DRIVER)
    if before != NO_DRIVER:
        knob.write(kernel, before)
    assert knob.read(kernel) == before
    knob.write(kernel, value)
    assert knob.read(kernel) == value


def test_a_platform_device_that_the_kernel_has_removed() -> None:
    kernel, knob = a_host(), PlatformDriver("efi-framebuffer.0")
    for name in [name for name in kernel.files if name.startswith(f"{FRAMEBUFFER}/")]:
        del kernel.files[name]
    kernel.links.pop(f"{FRAMEBUFFER}/driver")
    with pytest.raises(Gone, match=r"efi-framebuffer\.0: the kernel has removed it"):
        knob.read(kernel)


CPUSET = Controller(f"{ROOT}/machine.slice", "cpuset")
CONTROL = f"{ROOT}/machine.slice/cgroup.subtree_control"


@pytest.mark.parametrize(
    ("before", "value", "text", "after"),
    [("cpu\n", ON, "+cpuset", ON), ("cpu cpuset\n", OFF, "-cpuset", OFF)],
)
def test_a_controller_is_switched(before: str, value: str, text: str, after: str) -> None:
    kernel = Strict()
    kernel.files |= {CONTROL: before, "/sys/devices/system/cpu/online": "0-3\n"}
    kernel.files["/sys/devices/system/cpu/possible"] = "0-3\n"
    CPUSET.write(kernel, value)
    assert kernel.written == [text]
    assert CPUSET.read(kernel) == after


@pytest.mark.parametrize(
    ("value", "number", "is_no_problem"),
    [
        # A group below, such as a guest's, has it on.
        (OFF, errno.EBUSY, True),
        (OFF, errno.EACCES, False),
        (ON, errno.EBUSY, False),
    ],
)
def test_a_controller_that_is_in_use_stays(value: str, number: int, is_no_problem: bool) -> None:
    kernel = Strict(number)
    kernel.files[CONTROL] = "cpu\n"
    with pytest.raises(HookError) as failure:
        CPUSET.write(kernel, value)
    assert isinstance(failure.value, Immovable) == is_no_problem


class Confined(Kernel):
    """A host where the kernel gives the tasks of a slice other CPUs than were asked for."""

    effective = ""

    def read(self, name: str) -> str:
        is_it = name == f"{ROOT}/{SLICE.unit}/cpuset.cpus.effective"
        return self.effective if is_it and self.effective else super().read(name)


@pytest.mark.parametrize(
    ("value", "effective", "problem"),
    [
        ("0-3", "0-3", ""),
        # Some of them are offline.
        ("0-3", "0-2", ""),
        ("0-3", "0-4", "CPUs 0-3 were asked for, but its tasks can use 0-4"),
        # None of them is there, so the kernel uses those of the group around it.
        ("40-41", "0-7", ""),
        ("", "0-7", ""),
        ("", "0-3", "CPUs 0-7 were asked for, but its tasks can use 0-3"),
    ],
)
def test_the_cpus_that_the_tasks_of_a_slice_can_use(
    value: str, effective: str, problem: str
) -> None:
    kernel = Confined()
    kernel.__dict__.update(a_host().__dict__)
    kernel.files["/sys/devices/system/cpu/online"] = "0-7\n"
    kernel.effective = effective
    if not problem:
        SLICE.write(kernel, value)
        return
    with pytest.raises(HookError) as failure:
        SLICE.write(kernel, value)
    assert failure.value.problem == f"{SLICE.unit}: {problem}"


def test_a_slice_that_may_use_all_cpus_has_no_limit() -> None:
    """Kernels before 7 let no set with tasks in it be emptied, so a cleared one stays like this."""
    kernel = a_host()
    SLICE.write(kernel, "")
    kernel.files[SLICE.key] = kernel.files["/sys/devices/system/cpu/online"]
    assert SLICE.read(kernel) == ""


@pytest.mark.parametrize(
    ("release", "loses"), [("6.1.0-57-amd64", True), ("6.2.0", False), ("6.12.118", False)]
)
def test_which_kernels_lose_cpus_that_are_offline(release: str, loses: bool) -> None:
    kernel = Kernel()
    kernel.files["/proc/sys/kernel/osrelease"] = f"{release}\n"
    assert loses_offline(kernel) is loses


@pytest.mark.parametrize(
    ("live", "value", "same"),
    [
        ("0-3", "0-3", True),
        # CPUs that are offline do not count.
        ("0-3", "0-3,8", True),
        ("0-3", "0-2", False),
        # No set is made, which is not the same as one of CPUs that are offline.
        ("", "", True),
        ("", "8", False),
        ("8", "", False),
    ],
)
def test_which_sets_of_cpus_are_the_same(live: str, value: str, same: bool) -> None:
    kernel = Kernel()
    kernel.files["/sys/devices/system/cpu/online"] = "0-7\n"
    assert SLICE.same(live, value, kernel) is same


CONSOLE = "/sys/class/vtconsole/vtcon1"


class Terminal(Kernel):
    """A host whose text console stays as it is until it has been written to some times."""

    def __init__(self, bound: str, times: int) -> None:
        super().__init__()
        self.times = times
        self.files = {f"{CONSOLE}/bind": bound, f"{CONSOLE}/name": "(M) frame buffer device\n"}

    def write(self, name: str, text: str) -> None:
        self.times -= 1
        if self.times <= 0:
            super().write(name, text)


@pytest.mark.parametrize("times", [1, 3])
def test_the_console_is_bound_again_until_it_is(times: int) -> None:
    kernel = Terminal("0", times)
    Console().write(kernel, BOUND)
    assert kernel.times == 0
    assert Console().read(kernel) == BOUND


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (BOUND, "the text console is still off after 0 s"),
        (UNBOUND, "the text console cannot be unbound: a program shows graphics on a terminal"),
    ],
)
def test_a_console_that_shows_graphics_stays(value: str, problem: str) -> None:
    kernel = Terminal("0" if value == BOUND else "1", 99)
    with pytest.raises(HookError) as failure:
        Console(seconds=0).write(kernel, value)
    assert failure.value.problem == problem


@pytest.mark.parametrize(
    ("driver", "is_back"), [("amdgpu", True), ("vfio-pci", False), (None, False)]
)
def test_a_function_is_back_when_a_driver_of_the_host_has_it(
    driver: str | None, is_back: bool
) -> None:
    kernel, folder = Kernel(), "/sys/bus/pci/devices/0000:04:00.0"
    kernel.links = {f"{folder}/driver": driver} if driver else {}
    assert LentPower(f"{folder}/power/control").is_back(kernel, "auto") is is_back


def test_a_module_may_show_no_folder_after_it_was_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one without parameters that is built into the kernel."""
    kernel, ran = Kernel(), list[list[str]]()
    monkeypatch.setattr(kernel, "run", ran.append)
    Module("lamp", options=("bright=1",)).write(kernel, LOADED)
    assert ran == [["modprobe", "--", "lamp", "bright=1"]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("isolated", "isolated"),
        ("root invalid (Cpu list in cpuset.cpus not exclusive)", "root"),
        ("", "member"),
    ],
)
def test_the_first_word_of_a_partition_is_its_value(text: str, value: str) -> None:
    kernel, knob = Kernel(), Partition(f"{ROOT}/machine.slice")
    kernel.files[knob.key] = f"{text}\n"
    assert knob.read(kernel) == value
