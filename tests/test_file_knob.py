"""Values that are one file: how the kernel shows them, and when it shows something else."""

import errno
import os

import pytest

from tests.fakes.kernel import Kernel
from vfio_hooks.errors import Asleep, Gone, HookError
from vfio_hooks.host.cgroup import V1
from vfio_hooks.host.cpu import CPUS
from vfio_hooks.knobs.file import CpuMask, File


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("60\n", "60"),
        ("always [madvise] never\n", "madvise"),
        ("[mq-deadline] none\n", "mq-deadline"),
        ("4096\t131072\t6291456\n", "4096 131072 6291456"),
        ("a[0] b\n", "a[0] b"),
        ("", ""),
    ],
)
def test_the_value_of_a_text(text: str, value: str) -> None:
    kernel = Kernel()
    kernel.files["/sys/x"] = text
    assert File("/sys/x").read(kernel) == value


def test_a_value_that_the_kernel_spells_otherwise_is_told() -> None:
    """That it is put back as well is the engine's: tests/test_third_value.py."""

    class Spelling(Kernel):
        def _shown(self, name: str, text: str) -> str:
            return {"1": "Y", "0": "N"}.get(text, text)

    kernel = Spelling()
    kernel.files["/sys/module/x/parameters/y"] = "N\n"
    with pytest.raises(HookError, match="the host shows 'Y'; give the value as the kernel"):
        File("/sys/module/x/parameters/y").write(kernel, "1")


class Refusing(Kernel):
    """A kernel that refuses to read and to write with a number of errno."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def read(self, name: str) -> str:
        raise OSError(self.number, os.strerror(self.number), name)

    def write(self, name: str, text: str) -> None:
        raise OSError(self.number, os.strerror(self.number), name)


OF_A_CPU = f"{CPUS}/cpu3/cpufreq/scaling_governor"


@pytest.mark.parametrize(
    ("number", "path", "read", "written"),
    [
        (errno.ENOENT, "/sys/x", Gone, Gone),
        (errno.ENODEV, "/sys/x", Gone, Gone),
        (errno.ENXIO, "/sys/x", Gone, Gone),
        (errno.EACCES, "/sys/x", HookError, HookError),
        (errno.EBUSY, "/sys/x", HookError, HookError),
        (errno.EBUSY, OF_A_CPU, Asleep, HookError),
        (errno.EACCES, OF_A_CPU, HookError, HookError),
    ],
)
def test_what_a_refusal_means(
    number: int, path: str, read: type[HookError], written: type[HookError]
) -> None:
    kernel = Refusing(number)
    with pytest.raises(HookError) as failure:
        File(path).read(kernel)
    assert type(failure.value) is read
    assert failure.value.problem.startswith(f"{path}: ")
    with pytest.raises(HookError) as failure:
        File(path).write(kernel, "1")
    assert type(failure.value) is written
    assert failure.value.problem.startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("path", "mask", "text"),
    [
        # Such a set takes no CPU that is offline.
        (f"{V1}/system.slice/cpuset.cpus", False, "0-3"),
        ("/sys/x", False, "0-7"),
        ("/sys/x", True, "ff"),
    ],
)
def test_how_a_set_of_cpus_is_written(path: str, mask: bool, text: str) -> None:
    kernel = Kernel()
    kernel.files |= {f"{V1}/cpuset.cpus": "0-3\n", path: "\n"}
    assert CpuMask(path, mask).foresee(kernel, "0-7") == {path: text}


def test_a_text_that_is_no_set_of_cpus_is_told() -> None:
    kernel = Kernel()
    kernel.files["/sys/x"] = "many\n"
    for mask in (False, True):
        with pytest.raises(HookError, match="/sys/x: 'many' is not a "):
            CpuMask("/sys/x", mask).read(kernel)
