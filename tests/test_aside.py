"""Writes to a device's files in a child process: what becomes of their failures."""

import errno
import os

import pytest

from tests.fakes.kernel import Kernel
from vfio_hooks.errors import HookError, Late
from vfio_hooks.knobs.aside import write_aside


class Failing(Kernel):
    """A host whose drivers refuse everything with one error."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write_aside(self, name: str, text: str, seconds: float, title: str) -> None:
        raise OSError(self.number, os.strerror(self.number), name)


def unbind(number: int) -> None:
    write_aside(Failing(number), "1-4:1.0", "/x/unbind", "1-4:1.0", 3, "unbind", (errno.ENODEV,))


@pytest.mark.parametrize(
    ("number", "kind", "told"),
    [
        (errno.ETIMEDOUT, Late, "1-4:1.0: cannot unbind within 3 s; see dmesg"),
        (errno.EINVAL, HookError, "1-4:1.0: cannot unbind: Invalid argument; see dmesg"),
    ],
)
def test_a_failure_names_the_device_and_what_was_done(
    number: int, kind: type[HookError], told: str
) -> None:
    with pytest.raises(HookError) as caught:
        unbind(number)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(told)


def test_what_is_tolerated_is_no_failure() -> None:
    unbind(errno.ENODEV)
