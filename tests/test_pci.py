"""The pci plugin and the binding of drivers, on the fake kernel."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import udev
from tests.fakes.kernel import Kernel, Lines, a_host
from vfio_hooks.domain import Domain, PciFunction
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import Gone, HookError
from vfio_hooks.event import Event
from vfio_hooks.knobs.announced import Announced
from vfio_hooks.knobs.lent_power import LentPower
from vfio_hooks.knobs.module import Module
from vfio_hooks.knobs.pci_driver import Binding, PciDriver
from vfio_hooks.knobs.pci_return import PciReturn
from vfio_hooks.plugins import pci
from vfio_hooks.plugins.pci import Options
from vfio_hooks.sharing import Exclusive, Once, Override
from vfio_hooks.steps import Step

GPU, SOUND, NIC = "0000:04:00.0", "0000:04:00.1", "0000:05:00.0"
VM = "00000000-0000-0000-0000-00000000000a"
BOUND = "vfio-pci (override vfio-pci)"
ALL = pytest.mark.parametrize("before", ["amdgpu", "no driver", BOUND, "amdgpu (override amdgpu)"])


def plan(kernel: Kernel, *functions: PciFunction, **options: object) -> list[Step]:
    domain = Domain("win11", "-", pci=functions)
    return list(pci.plan(Event("win11", "prepare"), domain, Options(**options), kernel))  # type: ignore[arg-type]


def passed(address: str, managed: bool = False, driver: str | None = None) -> PciFunction:
    return PciFunction(address, managed, "hostdev", driver)


def step(address: str, value: str | None) -> Step:
    return Step("pci", PciDriver(address), Exclusive(value))


def test_managed_functions_are_left_to_libvirt() -> None:
    assert plan(a_host(), passed(GPU, True), passed(SOUND, True)) == [
        step(GPU, None),
        step(SOUND, None),
    ]


def test_sound_servers_are_told_that_their_card_has_gone() -> None:
    kernel = a_host()
    folder = f"/sys/bus/pci/devices/{SOUND}/sound/card1"
    udev.add_card(kernel, folder)
    withdrawn = Step("pci", Announced(folder), Override("withdrawn"))
    assert plan(kernel, passed(GPU, True), passed(SOUND, True)) == [
        withdrawn,
        step(GPU, None),
        step(SOUND, None),
    ]
    withdrawn.knob.write(kernel, "withdrawn")
    assert plan(kernel, passed(SOUND, True), passed(GPU, True)) == [
        step(GPU, None),
        step(SOUND, None),
    ]
    withdrawn.knob.write(kernel, "announced")
    assert kernel.announcing[-2:] == ["remove card1", "change card1"]


def test_a_function_that_may_sleep_may_do_so_afterwards() -> None:
    kernel, address = a_host(), "0000:0d:00.0"
    control = f"/sys/bus/pci/devices/{address}/power/control"
    both = (passed(address, True), passed("0000:0d:00.1", True))
    first, second, *_ = plan(kernel, *both)
    assert first == Step("pci", LentPower(control), Exclusive()) != second
    kernel.files[control] = "on\n"
    assert plan(kernel, *both)[0] == second


class Returning(Kernel):
    """A host where udev has yet to handle a driver's return."""

    def show(self, argv: list[str], seconds: float = 30) -> str:
        if argv[0] == "udevadm":
            udev.handle(self, f"{CARD}/uevent", "bind")
            # Another device's event takes longer than we wait.
            raise HookError("udevadm settle: exit code 1")
        return super().show(argv, seconds)


CARD = f"/sys/bus/pci/devices/{GPU}/drm/card0"


def test_a_card_that_its_driver_announces_is_not_announced_again() -> None:
    kernel = Returning()
    kernel.files["/run/udev/control"] = ""
    udev.add_card(kernel, CARD, "226:0")
    knob = Announced(CARD, seconds=0)
    knob.write(kernel, "withdrawn")
    assert knob.read(kernel) == "withdrawn"
    knob.write(kernel, "announced")
    assert kernel.announcing == ["add card0", "remove card0", "bind card0"]


def test_a_udev_that_does_not_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = a_host()
    monkeypatch.setattr(udev, "handle", lambda *_: None)
    with pytest.raises(HookError, match="card0: udev has not withdrawn the card within 0 s;"):
        Announced(CARD, seconds=0).write(kernel, "withdrawn")
    with pytest.raises(Gone, match="card7: the card is gone"):
        Announced(f"/sys/bus/pci/devices/{GPU}/drm/card7").read(kernel)


def test_functions_that_are_taken_are_bound_by_us() -> None:
    """libvirt's own unbind would wait for who has them open without a limit."""
    steps = plan(a_host(), passed(GPU, True), passed(SOUND, True), in_use="take")
    assert [(one.key, one.share) for one in steps] == [
        (PciDriver(address).key, Exclusive(BOUND)) for address in (GPU, SOUND)
    ]


@pytest.mark.parametrize("driver", ["xhci_hcd", "", "../vfio-pci-not", "amdgpu"])
def test_a_driver_of_the_host_is_refused(driver: str) -> None:
    with pytest.raises(ValueError, match="cannot keep a device for a guest"):
        Options(driver=driver)
    if driver:
        with pytest.raises(
            HookError,
            match=r"cannot keep a device for a guest.*; correct "
            r"<driver>",
        ):
            plan(a_host(), passed(NIC, driver=driver))


def test_a_vgpu_keeps_its_driver() -> None:
    kernel = a_host()
    kernel.files[f"/sys/bus/pci/devices/{NIC}/vfio-dev/vfio0/dev"] = "511:0"
    assert plan(kernel, passed(NIC)) == [step(NIC, None)]


def test_unmanaged_functions_are_bound_by_us() -> None:
    assert plan(a_host(), passed(NIC)) == [step(NIC, BOUND)]


def test_a_variant_driver_is_loaded_and_used() -> None:
    kernel = a_host()
    assert plan(kernel, passed(NIC, driver="mlx5_vfio_pci")) == [
        Step("pci", Module("mlx5_vfio_pci"), Once("loaded")),
        step(NIC, "mlx5_vfio_pci (override mlx5_vfio_pci)"),
    ]


def test_the_rest_of_the_group() -> None:
    kernel = a_host()
    with pytest.raises(HookError, match=r"group 7 .* host uses 0000:04:00.1 \(snd_hda_intel"):
        plan(kernel, passed(GPU))
    assert plan(kernel, passed(GPU, True), group="bind") == [step(GPU, None), step(SOUND, BOUND)]


@pytest.mark.parametrize(
    ("driver", "device_class"),
    [("pcieport", "0x060400"), (None, "0x040300"), ("vfio-pci", "0x040300")],
)
def test_what_does_not_spoil_a_group(driver: str | None, device_class: str) -> None:
    kernel = a_host()
    kernel.add_pci("0000:03:00.0", driver, "8", device_class)
    assert plan(kernel, passed(NIC)) == [step(NIC, BOUND)]


def test_an_isa_bridge_with_a_driver_spoils_a_group() -> None:
    kernel = a_host()
    kernel.add_pci("0000:00:1f.0", "lpc_ich", "8", "0x060100")
    with pytest.raises(HookError, match=r"host uses 0000:00:1f.0 \(lpc_ich"):
        plan(kernel, passed(NIC))


@pytest.mark.parametrize(
    ("boot", "bound", "framebuffer", "is_noted"),
    [
        ("1", "1", "graphics/fb0", True),
        ("0", "1", "graphics/fb0", False),
        ("1", "0", "graphics/fb0", False),
        ("1", "1", "drm/card0", False),
    ],
)
def test_a_console_that_goes_is_noted(
    boot: str, bound: str, framebuffer: str, is_noted: bool
) -> None:
    """No error: on a server nobody may look at it, and it comes back."""
    kernel, card = a_host(), f"/sys/bus/pci/devices/{GPU}"
    kernel.files |= {
        f"{card}/boot_vga": f"{boot}\n",
        f"{card}/{framebuffer}/dev": "29:0\n",
        "/sys/class/vtconsole/vtcon1/bind": f"{bound}\n",
    }
    assert plan(kernel, passed(GPU), group="bind")
    found = list(pci.notes(Domain("win11", "-", pci=(passed(GPU),)), Options(), kernel))
    told = f"{GPU} is the boot display, with the text console on it, so the host has no screen"
    assert [note.startswith(told) for note in found] == [True] * is_noted


def test_a_function_without_a_group() -> None:
    kernel = a_host()
    del kernel.links[f"/sys/bus/pci/devices/{NIC}/iommu_group"]
    with pytest.raises(HookError, match=r"0000:05:00.0: the device is in no IOMMU group; switch"):
        plan(kernel, passed(NIC))


def test_only_prepare_changes_drivers() -> None:
    domain = Domain("win11", "-", pci=(passed(NIC),))
    for op in ("start", "started"):
        assert not list(pci.plan(Event("win11", op), domain, Options(), a_host()))


@ALL
@pytest.mark.parametrize("after", ["amdgpu", "no driver", BOUND, "vfio-pci"])
def test_from_every_binding_to_every_other(before: str, after: str) -> None:
    kernel, knob = a_host(), PciDriver(GPU, 0.1)
    for value in (before, after, before):
        knob.write(kernel, value)
        assert knob.read(kernel) == value


@pytest.mark.parametrize(
    "before",
    ["amdgpu", "amdgpu (override amdgpu)", "radeon", "pci-stub (override pci-stub)", "vfio-pci"],
)
def test_what_libvirt_gives_back_to_another_driver(memory: Path, before: str) -> None:
    """It clears the override and probes: amdgpu is what then matches."""
    kernel, knob = a_host(), PciDriver(GPU, 0.1)
    for driver in ("radeon", "pci-stub"):
        kernel.files[f"/sys/bus/pci/drivers/{driver}/uevent"] = "\n"
    knob.write(kernel, before)
    engine = Engine(kernel, StateFolder(str(memory / "state")), Lines())
    engine.perform("prepare", VM, "win11", lambda _: [step(GPU, None)])
    kernel.bind_as_libvirt(GPU)
    kernel.give_back_as_libvirt(GPU)
    assert knob.read(kernel) == "amdgpu"
    assert engine.undo("release", VM) == []
    assert knob.read(kernel) == before


OTHER = "00000000-0000-0000-0000-00000000000b"


@pytest.mark.parametrize("start", ["prepare", "started", "started, idle"])
@pytest.mark.parametrize("before", ["amdgpu", "amdgpu (override amdgpu)", "no driver", BOUND])
def test_a_device_that_was_detached_from_a_running_vm(
    memory: Path, start: str, before: str
) -> None:
    """No event tells of it. Until its VM has started, a function that still has its own driver is
    only on its way there; and one that vfio-pci has from boot on looks as if it were in use."""
    kernel, knob = a_host(), PciDriver(GPU, 0.1)
    knob.write(kernel, before)
    if before == "no driver":
        del kernel.home[GPU]
    engine = Engine(kernel, StateFolder(str(memory / "state")), Lines())
    lent = [step(GPU, None)]
    engine.perform("prepare", VM, "k3", lambda _: lent)
    if start != "prepare":
        kernel.bind_as_libvirt(GPU)
        if start == "started":
            engine.perform("started", VM, "k3", lambda _: [])
        else:
            kernel.files["/run/libvirt/qemu/k3.xml"] = "<domstatus/>"
        with pytest.raises(HookError, match=f"{GPU}: VM k3 has it; shut down k3"):
            engine.perform("prepare", OTHER, "k4", lambda _: lent)
        knob.write(kernel, BOUND if before == BOUND else before)
    if start == "prepare" or before == BOUND:
        with pytest.raises(HookError, match=f"{GPU}: VM k3 has it"):
            engine.perform("prepare", OTHER, "k4", lambda _: lent)
        return
    engine.perform("prepare", OTHER, "k4", lambda _: lent)
    kernel.bind_as_libvirt(GPU)
    # Its own end takes nothing from the other, nor does it look at what that has.
    assert engine.undo("release", VM) == []
    assert knob.read(kernel) == BOUND
    kernel.give_back_as_libvirt(GPU)
    assert engine.undo("release", OTHER) == []
    assert knob.read(kernel) == before


def test_a_card_s_sleep_and_return_follow_its_driver(memory: Path) -> None:
    kernel, address = a_host(), "0000:0d:00.0"
    control = f"/sys/bus/pci/devices/{address}/power/control"
    knobs = (PciReturn(address), LentPower(control), PciDriver(address))
    lent = [Step("pci", knob, Exclusive()) for knob in knobs]
    engine = Engine(kernel, StateFolder(str(memory / "state")), Lines())
    engine.perform("prepare", VM, "k3", lambda _: lent)
    kernel.bind_as_libvirt(address)
    engine.perform("started", VM, "k3", lambda _: [])
    kernel.give_back_as_libvirt(address)
    assert kernel.files[control] == "on\n"
    engine.perform("prepare", OTHER, "k4", lambda _: lent)
    assert engine.undo("release", VM) == engine.undo("release", OTHER) == []
    assert kernel.files[control] == "auto\n"


def test_a_module_that_went_meanwhile_is_loaded_by_the_device_s_own_alias() -> None:
    kernel, knob = a_host(), PciDriver(NIC, 0.1)
    knob.write(kernel, BOUND)
    del kernel.files["/sys/bus/pci/drivers/e1000e/uevent"]
    with pytest.raises(HookError, match="modprobe: no such program"):
        knob.write(kernel, "e1000e")
    assert kernel.ran == [["modprobe", "-b", "--", f"pci:{NIC}"]]


def test_a_driver_that_does_not_take_the_device() -> None:
    kernel = a_host()
    kernel.refuses.add("/sys/bus/pci/drivers_probe")
    with pytest.raises(HookError, match=r"0000:05:00.0: cannot probe: Invalid argument"):
        PciDriver(NIC, 0.1).write(kernel, BOUND)


def test_a_device_that_is_gone() -> None:
    with pytest.raises(Gone):
        PciDriver("0000:99:00.0").read(a_host())


@given(
    st.none() | st.from_regex(r"[a-z_-]{1,12}", fullmatch=True),
    st.none() | st.from_regex(r"[a-z_-]{1,12}", fullmatch=True),
)
def test_a_binding_reads_as_it_was_written(driver: str | None, override: str | None) -> None:
    binding = Binding(driver, override)
    assert Binding.parse(str(binding)) == binding


def test_a_function_is_aimed_at_its_driver_before_the_old_one_goes() -> None:
    """Or udev, or a module that is being loaded, may have it probed in between."""
    kernel = a_host()
    written, write = list[str](), kernel.write

    def noted(name: str, text: str) -> None:
        written.append(name.rpartition("/")[2])
        write(name, text)

    kernel.write = noted  # type: ignore[method-assign]
    PciDriver(GPU).write(kernel, BOUND)
    assert written == ["driver_override", "unbind", "drivers_probe"]
    assert PciDriver(GPU).read(kernel) == BOUND


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENODEV, None),
        (errno.ENOENT, None),
        (errno.EPERM, f"{GPU}.*: cannot unbind: Operation not permitted"),
    ],
)
def test_a_function_that_somebody_else_unbinds_meanwhile(number: int, told: str | None) -> None:
    kernel = a_host()
    write = kernel.write

    def late(name: str, text: str) -> None:
        write(name, text)
        if name.endswith("/unbind"):
            raise OSError(number, os.strerror(number), name)

    kernel.write = late  # type: ignore[method-assign]
    if told is None:
        PciDriver(GPU).write(kernel, BOUND)
        assert PciDriver(GPU).read(kernel) == BOUND
    else:
        with pytest.raises(HookError, match=told):
            PciDriver(GPU).write(kernel, BOUND)
