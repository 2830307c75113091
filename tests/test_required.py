"""Which steps a VM's start depends on: those that both the plugin and the table require."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fakes.kernel import Kernel, Lines
from vfio_hooks.config import Config
from vfio_hooks.config.tables import Table
from vfio_hooks.domain import Domain
from vfio_hooks.event import Event
from vfio_hooks.hook.facilities import plan_all
from vfio_hooks.host import Host
from vfio_hooks.knobs.file import File
from vfio_hooks.sharing import Exclusive, Override
from vfio_hooks.steps import Step


class Plugin:
    @dataclass(frozen=True)
    class Options:
        pass

    def plan(self, event: Event, domain: Domain, options: Any, host: Host) -> Iterator[Step]:
        yield Step("test", File("/must"), Override("1"))
        yield Step("test", File("/may"), Override("1"), required=False)


def test_the_next_table_of_a_name_sees_what_the_one_before_takes_for_the_vm_alone() -> None:
    """A value that other VMs may claim, too, is shown as it is now."""
    seen = []

    class Watching(Plugin):
        def plan(self, event: Event, domain: Domain, options: Any, host: Host) -> Iterator[Step]:
            seen.append((host.read("/shared"), host.read("/own")))
            yield Step("test", File("/own"), Exclusive("1"))
            yield Step("test", File("/shared"), Override("1"))

    kernel, table = Kernel(), Table("test", Watching(), Plugin.Options())
    kernel.files = {"/shared": "0\n", "/own": "0\n"}
    plan_all(Event("vm", "prepare"), Domain("vm", "0"), Config((table, table)), kernel, Lines())
    assert seen == [("0", "0"), ("0", "1")]


@pytest.mark.parametrize(("table", "required"), [(True, [True, False]), (False, [False, False])])
def test_table_and_plugin_both_have_a_say(table: bool, required: list[bool]) -> None:
    config = Config((Table("test", Plugin(), Plugin.Options(), table),))
    steps = plan_all(Event("vm", "prepare"), Domain("vm", "0"), config, Kernel(), Lines())
    assert [step.required for step in steps] == required
