"""The gpu plugin, on the fake kernel, whose card 0000:0c:00.0 comes back only with a rescan."""

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.kernel import Kernel, Lines, a_host
from tests.fakes.pci import DEVICES
from vfio_hooks.domain import Domain, PciFunction
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.knobs.bar_size import BarSize
from vfio_hooks.knobs.pci_driver import PciDriver
from vfio_hooks.knobs.pci_return import PciReturn
from vfio_hooks.plugins import gpu, pci
from vfio_hooks.plugins.gpu import Options
from vfio_hooks.sharing import Exclusive
from vfio_hooks.steps import Step

CARD, SOUND, FRAGILE, NIC = "0000:04:00.0", "0000:04:00.1", "0000:0c:00.0", "0000:05:00.0"
UUID = "00000000-0000-0000-0000-000000000001"
BOUND = "vfio-pci (override vfio-pci)"


def a_vm(*addresses: str) -> Domain:
    return Domain("vm", UUID, pci=tuple(PciFunction(one, False, "hostdev") for one in addresses))


def planned(kernel: Kernel, domain: Domain, op: str = "prepare", **options: Any) -> list[str]:
    steps = gpu.plan(Event("vm", op), domain, Options(**options), kernel)
    return [
        f"{step.key.removeprefix(DEVICES + '/')}={getattr(step.share, 'value', '')}, {step.until}"
        for step in steps
    ]


def test_an_empty_table_looks_after_the_cards_return() -> None:
    expected = [f"{CARD}, when it comes back=None, release"]
    assert planned(a_host(), a_vm(CARD, SOUND, NIC)) == expected
    assert planned(a_host(), a_vm(CARD), rescan=False) == []
    assert planned(a_host(), a_vm(CARD), op="started") == []


def test_what_else_there_is() -> None:
    options: dict[str, Any] = {
        "rescan": False,
        "d3cold": False,
        "reset_method": "flr bus",
        "power": "on",
    }
    assert planned(a_host(), a_vm(CARD), **options) == [
        f"{CARD}/d3cold_allowed=0, release",
        f"{CARD}/reset_method=flr bus, release",
    ]
    assert planned(a_host(), a_vm(CARD), op="started", **options) == [
        f"{CARD}/power/control=on, stopped"
    ]


def test_a_watch_begins_with_the_guest() -> None:
    steps = list(gpu.plan(Event("vm", "started"), a_vm(CARD), Options(alive=90.0), a_host()))
    (step,) = steps
    assert (step.until, step.required) == ("stopped", False)
    assert step.as_json()["knob"]["do"][-4:] == ("/run/libvirt/qemu/vm.pid", "90", "tell", CARD)
    assert planned(a_host(), a_vm(CARD), alive=90.0) == planned(a_host(), a_vm(CARD))
    for seconds in (0, 4, 3601):
        with pytest.raises(ValueError, match="alive must be"):
            Options(alive=seconds)


def test_a_bar_is_resized_when_libvirt_has_the_card() -> None:
    kernel = a_host()
    assert planned(kernel, a_vm(CARD), op="start", bar_sizes={"0": 1024}) == [
        f"{CARD}/resource0, MiB=1024, stopped"
    ]
    assert len(planned(kernel, a_vm(CARD), bar_sizes={"0": 1024})) == 1
    with pytest.raises(HookError, match="BAR 0 cannot have 1000 MiB; it can have 256, 512, 1024, "):
        planned(kernel, a_vm(CARD), bar_sizes={"0": 1000})
    with pytest.raises(HookError, match="BAR 2 cannot have 256 MiB; its size is fixed"):
        planned(kernel, a_vm(CARD), bar_sizes={"2": 256})
    with pytest.raises(ValueError, match="BARs 0 to 5"):
        Options(bar_sizes={"rom": 1})


def test_a_bar_changes_between_two_drivers_of_a_guest() -> None:
    kernel, knob = a_host(), BarSize(CARD, 0)
    with pytest.raises(
        HookError,
        match=r"0000:04:00.0: BAR 0 cannot change while amdgpu has the device",
    ):
        knob.write(kernel, "1024")
    kernel.bind_as_libvirt(CARD)
    for size in ("1024", "256"):
        knob.write(kernel, size)
        assert knob.read(kernel) == size
        assert PciDriver(CARD).read(kernel) == BOUND
    kernel.refuses.add(f"{DEVICES}/{CARD}/resource0_resize")
    with pytest.raises(HookError, match="resource0_resize: cannot write '10': Invalid"):
        knob.write(kernel, "1024")
    assert PciDriver(CARD).read(kernel) == BOUND


def test_any_function_that_the_vm_has() -> None:
    named = planned(a_host(), a_vm(CARD, NIC), functions=(NIC,))
    assert named == [f"{NIC}, when it comes back=None, release"]
    with pytest.raises(HookError, match=r"0000:05:00.0: the domain is not given such"):
        planned(a_host(), a_vm(CARD), functions=(NIC,))
    with pytest.raises(HookError, match="is given no graphics card of this host"):
        planned(a_host(), a_vm(NIC))


def test_a_card_that_is_the_host_s_only_by_name_need_not_come_back() -> None:
    kernel = a_host()
    kernel.bind_as_libvirt(CARD)
    assert planned(kernel, a_vm(CARD)) == []


def test_the_card_is_the_last_to_come_back() -> None:
    domain = a_vm(SOUND, CARD)
    steps = list(pci.plan(Event("vm", "prepare"), domain, pci.Options(), a_host()))
    assert [step.key.split("/")[-2] for step in steps] == [CARD, SOUND]


def live_through(kernel: Kernel, folder: Path, rescan: bool) -> tuple[list[str], Lines]:
    """A start and an end with the fragile card and a network card; what could not be put back."""
    steps = [
        *([Step("gpu", PciReturn(FRAGILE, 0.1), Exclusive())] if rescan else []),
        Step("pci", PciDriver(NIC, 0.1), Exclusive(BOUND)),
        Step("pci", PciDriver(FRAGILE, 0.1), Exclusive(BOUND)),
    ]
    log = Lines()
    engine = Engine(kernel, StateFolder(str(folder)), log)
    engine.perform("prepare", UUID, "vm", lambda _: steps)
    return engine.undo("release", UUID), log


def test_a_card_that_is_refused_is_found_anew(memory: Path) -> None:
    kernel = a_host()
    before = kernel.state()
    problems, log = live_through(kernel, memory, rescan=True)
    assert problems == []
    assert kernel.state() == before
    assert f"vm: {DEVICES}/{FRAGILE}/driver: amdgpu after all" in log.infos
    assert not [file for file in memory.iterdir() if file.name != "lock"]


def test_without_it_the_card_stays_away_and_the_others_come_back(memory: Path) -> None:
    kernel = a_host()
    problems, _ = live_through(kernel, memory, rescan=False)
    assert problems == [f"{FRAGILE}: amdgpu did not take the device within 0.1 s"]
    assert PciDriver(NIC).read(kernel) == "e1000e"


def test_a_card_that_stays_away_is_told_and_blocks_nothing(memory: Path) -> None:
    kernel = a_host()
    kernel.refuses.add("/sys/bus/pci/rescan")
    problems, _ = live_through(kernel, memory, rescan=True)
    assert problems[-1].startswith("0000:0c:00.0: cannot rescan the bus: Invalid argument")
    assert PciDriver(NIC).read(kernel) == "e1000e"


def test_a_card_that_no_driver_takes_by_itself_is_probed() -> None:
    """As with drivers_autoprobe off: the rescan only finds it."""
    kernel = a_host()
    rescan = kernel.rescan

    def find_only() -> None:
        rescan()
        kernel.unbind(FRAGILE, FRAGILE)

    kernel.rescan = find_only  # type: ignore[method-assign]
    PciReturn(FRAGILE, 0.1).write(kernel, "amdgpu")
    assert PciReturn(FRAGILE).read(kernel) == "amdgpu"


def test_a_card_that_a_guest_still_has_is_not_removed() -> None:
    kernel = a_host()
    kernel.bind_as_libvirt(CARD)
    with pytest.raises(HookError, match=r"0000:04:00.0: vfio-pci still has the device"):
        PciReturn(CARD, 0.1).write(kernel, "amdgpu")
    assert kernel.removed == {}
