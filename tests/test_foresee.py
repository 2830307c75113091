"""What knobs foresee for the host's files is what their writes do to them."""

from contextlib import suppress

import pytest

from tests.fakes.kernel import Kernel, a_host
from tests.test_crashes import PLANS
from vfio_hooks.errors import Immovable
from vfio_hooks.knobs.file import File
from vfio_hooks.sharing import is_shared, target

KINDS = {
    "cpus",
    "epp",
    "file",
    "frequency",
    "governor",
    "group-cpus",
    "irq",
    "irq-default",
    "lent-power",
    "mdev",
    "pages",
    "partition",
    "pci-driver",
    "usb-driver",
    "watchdog",
}
"""The knobs that tell anything."""


STEPS = [
    step
    for plan in PLANS.values()
    for step in plan
    # Steps that wait for others have nothing to read yet.
    if is_shared(step.share) and not step.awaits
]


def shows(kernel: Kernel, path: str) -> str | None:
    if path.endswith(("/driver", "/mdev_type")):
        return kernel.link(path)
    text = File(path).read(kernel)
    return "" if text == "(null)" else text


def test_only_what_plans_read_is_foreseen() -> None:
    kernel = a_host()
    knobs = {step.knob for step in STEPS}
    assert {one.kind for one in knobs if one.foresee(kernel, one.read(kernel))} == KINDS


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_write_shows_what_was_foreseen(kind: str) -> None:
    for step in (one for one in STEPS if one.knob.kind == kind):
        kernel, knob = a_host(), step.knob
        base = knob.read(kernel)
        for value in (base, target(base, [step.share])):
            foreseen = knob.foresee(kernel, value)
            with suppress(Immovable):
                knob.write(kernel, value)
                assert foreseen == {path: shows(kernel, path) for path in foreseen}
