"""Values that are one file: how the kernel shows them, and when it shows something else."""

import pytest

from tests.fakes.kernel import Kernel
from vfio_hooks.errors import HookError
from vfio_hooks.knobs.file import File


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
