"""The session plugin: what a card's release takes, on the fake kernel and on trees."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import display
from tests.fakes.kernel import Kernel, Lines, a_host
from tests.hosttree import add_pci
from vfio_hooks import PLANNED
from vfio_hooks.domain import Domain, PciFunction
from vfio_hooks.engine import Engine, Planner
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError, Immovable
from vfio_hooks.event import Event
from vfio_hooks.host import Host, WritableHost, in_use
from vfio_hooks.host.framebuffer import firmware_framebuffers
from vfio_hooks.host.in_use import Holder
from vfio_hooks.host.modules import stack
from vfio_hooks.knobs.console import Console
from vfio_hooks.knobs.module import Module
from vfio_hooks.knobs.not_in_use import FREE, Freed
from vfio_hooks.plugins import session
from vfio_hooks.plugins.session import Options
from vfio_hooks.sharing import Exclusive
from vfio_hooks.steps import Step
from vfio_hooks.wait import until

pytestmark = pytest.mark.real_processes
CARD, SOUND, NVIDIA = "0000:04:00.0", "0000:04:00.1", "0000:0b:00.0"
UNITS = "/etc/systemd/system"


def a_desktop() -> Kernel:
    kernel = a_host()
    kernel.links[f"{UNITS}/display-manager.service"] = "gdm.service"
    kernel.files["/lib/systemd/system/gdm.service"] = "[Service]\n"
    return kernel


def planned(kernel: Kernel, *addresses: str, **options: object) -> list[Step]:
    given = tuple(PciFunction(address, True, "hostdev") for address in addresses)
    domain = Domain("win11", "-", pci=given)
    return list(session.plan(Event("win11", "prepare"), domain, Options(**options), kernel))  # type: ignore[arg-type]


def told(steps: list[Step]) -> list[str]:
    return [f"{step.key}={getattr(step.share, 'value', '')}" for step in steps]


def test_an_empty_table_stops_the_manager_and_frees_the_card() -> None:
    assert told(planned(a_desktop(), CARD, SOUND)) == [
        "unit gdm.service=inactive",
        f"{CARD}'s device nodes=not in use",
        "console on the framebuffer=unbound",
    ]
    steps = planned(a_desktop(), CARD, SOUND, leftovers="end")
    assert told(steps)[2] == f"{SOUND}'s device nodes=not in use"
    assert [step.required for step in steps[:3]] == [True, True, False]


def test_nvidia_s_modules_are_unloaded_top_down_without_its_daemons() -> None:
    kernel = a_desktop()
    kernel.links["/sys/bus/pci/drivers/nvidia/module"] = "nvidia"
    kernel.files["/usr/lib/systemd/system/nvidia-persistenced.service"] = "[Service]\n"
    steps = planned(kernel, NVIDIA)
    assert told(steps) == [
        "unit gdm.service=inactive",
        "unit nvidia-persistenced.service=inactive",
        f"{NVIDIA}'s device nodes=not in use",
        "console on the framebuffer=unbound",
        "/sys/module/nvidia_drm=not loaded",
        "/sys/module/nvidia=not loaded",
    ]
    assert [step.knob for step in steps[-2:]] == [
        Module("nvidia_drm"),
        Module("nvidia", (NVIDIA,)),
    ]
    beside = [*told(steps)[1:3], *told(steps)[4:]]
    assert told(planned(kernel, NVIDIA, manager="none")) == beside
    assert told(planned(kernel, NVIDIA, modules=()))[-1] == "console on the framebuffer=unbound"


def test_options_go_before_what_is_found() -> None:
    steps = told(planned(a_desktop(), CARD, manager="ly.service", modules=("nvidia_drm",)))
    assert steps[0] == "unit ly.service=inactive"
    assert steps[-1] == "/sys/module/nvidia_drm=not loaded"


def test_a_desktop_without_the_card_while_the_vm_runs() -> None:
    """Started once the card is the VM's, stopped before it is back, and then started with all."""
    kernel = a_desktop()
    wish = Options(restart="without-card")
    assert told(planned(kernel, CARD, restart="without-card")) == told(planned(kernel, CARD))
    given = Domain("win11", "-", pci=(PciFunction(CARD, True, "hostdev"),))
    (again,) = session.plan(Event("win11", "started"), given, wish, kernel)
    assert (again.key, again.until, again.required) == ("unit gdm.service", "stopped", False)
    assert told([again]) == ["unit gdm.service=active"]
    assert not list(session.plan(Event("win11", "started"), given, Options(), kernel))
    with pytest.raises(HookError, match='manager = "none" leaves no display manager'):
        planned(kernel, CARD, restart="without-card", manager="none")
    others = [one for one in kernel.links if one.endswith("/driver") and CARD not in one]
    for link in others:
        del kernel.links[link]
    with pytest.raises(HookError, match="keeps no other graphics card with a driver"):
        planned(kernel, CARD, restart="without-card")


def test_the_manager_over_the_life_of_a_vm(memory: Path) -> None:
    """Each event is a process of its own. The card is libvirt's from the first to the last."""
    kernel, uuid = a_desktop(), "00000000-0000-0000-0000-000000000001"
    given = Domain("win11", uuid, pci=(PciFunction(CARD, True, "hostdev"),))
    wish, folder = Options(restart="without-card"), StateFolder(str(memory))

    def units(event: str) -> Planner:
        steps = session.plan(Event("win11", event), given, wish, kernel)
        chosen = [step for step in steps if step.key.startswith("unit ")]
        return lambda _: chosen

    seen = []
    for event in ("prepare", "started", "stopped", "release"):
        engine = Engine(kernel, folder, Lines())
        if event in PLANNED:
            engine.perform(event, uuid, "win11", units(event))
        else:
            assert engine.undo(event, uuid) == []
        seen.append(kernel.units["gdm.service"])
    assert seen == ["inactive", "active", "inactive", "active"]


def test_who_is_ended_is_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = a_desktop()
    kernel.files["/proc/7/cgroup"] = "0::/user.slice/user-1000.slice/session-2.scope\n"
    kernel.files["/proc/8/cgroup"] = "0::/system.slice/ollama.service\n"
    held = [Holder(7, "sway", "/dev/dri/card0"), Holder(8, "ollama", "/dev/nvidia0")]
    monkeypatch.setattr(in_use, "holders", lambda host, address: held)
    domain = Domain("win11", "-", pci=(PciFunction(CARD, True, "hostdev"),))
    (line,) = session.notes(domain, Options(), kernel)
    assert (
        "programs of the session end, including sway (pid 7), and so do the user's PipeWire"
    ) in line
    assert not list(session.notes(domain, Options(manager="none"), kernel))


def test_a_host_without_a_display_manager() -> None:
    removed = a_desktop()
    del removed.files["/lib/systemd/system/gdm.service"]
    for kernel in (a_host(), removed):
        assert told(planned(kernel, CARD))[0] == f"{CARD}'s device nodes=not in use"


def test_a_card_that_was_never_the_host_s() -> None:
    kernel = a_desktop()
    kernel.bind_as_libvirt(CARD)
    assert planned(kernel, CARD) == []


def test_a_vm_without_a_card() -> None:
    with pytest.raises(HookError, match="is given no graphics card of this host; add it"):
        planned(a_desktop(), SOUND)


def test_a_module_that_there_is_not() -> None:
    kernel = a_desktop()
    kernel.files["/proc/sys/kernel/osrelease"] = "6.12\n"
    kernel.files["/lib/modules/6.12/modules.dep"] = "kernel/x.ko:\n"
    with pytest.raises(HookError, match="this kernel has no module 'nvidai'"):
        planned(kernel, CARD, modules=("nvidai",))


def test_a_console_that_only_its_driver_brings_back_is_left_to_it() -> None:
    kernel = a_desktop()
    kernel.files[f"{display.CONSOLES}/vtcon0/name"] = "(M) dummy device\n"
    console = next(step for step in planned(kernel, CARD) if isinstance(step.knob, Console))
    assert console.share == Exclusive()
    kernel.files = {path: text for path, text in kernel.files.items() if "vtconsole" not in path}
    with pytest.raises(Immovable, match="there is no framebuffer"):
        Console(0.1).write(kernel, "bound")


def test_a_console_in_graphics_mode_does_not_go() -> None:
    class InGraphicsMode(Kernel):
        """It takes the write, as the real one does, and does nothing."""

        def _shown(self, name: str, text: str) -> str:
            return self.read(name) if "vtcon" in name else super()._shown(name, text)

    kernel = InGraphicsMode()
    display.add(kernel)
    with pytest.raises(HookError, match="a program shows graphics on a terminal"):
        Console(0.1).write(kernel, "unbound")


def test_modules_go_before_what_they_stand_on() -> None:
    kernel = Kernel()
    for module, holders in {
        "nvidia": ("nvidia_modeset", "nvidia_uvm"),
        "nvidia_modeset": ("nvidia_drm",),
        "nvidia_drm": (),
        "nvidia_uvm": (),
        "nouveau": (),
    }.items():
        kernel.files[f"/sys/module/{module}/refcnt"] = "1\n"
        for holder in holders:
            kernel.files[f"/sys/module/{module}/holders/{holder}"] = "\n"
    assert stack(kernel, "nvidia") == ["nvidia_drm", "nvidia_modeset", "nvidia_uvm", "nvidia"]
    assert stack(kernel, "nvidia-drm") == ["nvidia_drm"]
    assert stack(kernel, "amdgpu") == []


def test_a_module_in_use_is_told_with_its_users() -> None:
    kernel = a_desktop()
    kernel.files["/sys/module/nvidia/refcnt"] = "2\n"
    with pytest.raises(HookError, match=r"nvidia: still in use after 0.1 s \(2 times\): by nvidia"):
        Module("nvidia", seconds=0.1).write(kernel, "not loaded")
    assert kernel.ran == []


def firmware(root: Path, folder: str, child: str = "graphics/fb0") -> None:
    """A platform device with a driver and what that shows."""
    device = root / folder
    (device / child).mkdir(parents=True)
    (device / "driver").symlink_to(f"../{device.name.rpartition('.')[0]}")
    links = root / "sys/bus/platform/devices"
    links.mkdir(parents=True, exist_ok=True)
    (links / device.name).symlink_to(device)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    add_pci(tmp_path, CARD, "nvidia")
    lines = ["0xd0000000 0xdfffffff 0x0014220c", *["0x0 0x0 0x0"] * 5, "0xc0000 0xdffff 0x212"]
    (tmp_path / "sys/bus/pci/devices" / CARD / "resource").write_text("\n".join(lines))
    (tmp_path / "proc").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("claim", "found"),
    [
        ("    d0000000-d07e8fff : efifb", True),
        ("    d0000000-d07e8fff : BOOTFB", True),
        ("    d0000000-dfffffff : vesafb", True),
        ("    d0000000-dfffffff : nvidia", False),
        ("    d0000000-dfffffff : its driver's other name", False),
        ("    e0000000-e07e8fff : efifb", False),
        ("    00000000-00000000 : efifb", False),
    ],
)
def test_a_framebuffer_is_where_its_memory_is(tree: Path, claim: str, found: bool) -> None:
    firmware(tree, "sys/devices/platform/efi-framebuffer.0")
    firmware(tree, "sys/devices/platform/serial8250.0", "tty/ttyS0")
    (tree / "proc/iomem").write_text(f"  d0000000-dfffffff : {CARD}\n{claim}\n")
    expected = ["efi-framebuffer.0"] if found else []
    assert firmware_framebuffers(Host(str(tree)), CARD) == expected


def test_a_framebuffer_below_its_card(tree: Path) -> None:
    """From Linux 6.9 on; simpledrm is a DRM card rather than a framebuffer."""
    firmware(tree, f"sys/bus/pci/devices/{CARD}/simple-framebuffer.0", "drm/card0")
    add_pci(tree, NVIDIA, "nvidia")
    assert firmware_framebuffers(Host(str(tree)), CARD) == ["simple-framebuffer.0"]
    assert firmware_framebuffers(Host(str(tree)), NVIDIA) == []


@pytest.fixture
def holder(tree: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that has the card's node open, and does not end when it is asked to."""
    node = tree / "sys/bus/pci/devices" / CARD / "drm/card0"
    node.mkdir(parents=True)
    (node / "subsystem").symlink_to("../../../../../../class/drm")
    # A terminal of the test's own: others that run beside this one have /dev/full open, too.
    main_end, other_end = os.openpty()
    opened, name = os.fstat(other_end).st_rdev, os.ttyname(other_end)
    os.close(other_end)
    (node / "dev").write_text(f"{os.major(opened)}:{os.minor(opened)}\n")
    (node / "uevent").write_text("DEVNAME=dri/card0\n")
    script = f"trap '' TERM; exec 3<{name}; echo; while :; do read -t 60 <> <(:); done"
    with subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        yield process
        process.kill()
    os.close(main_end)


class ThisMachine(WritableHost):
    """A tree's devices with this machine's processes, all of them in one control group."""

    is_this_machine = True
    group = "/user.slice/session-2.scope"

    def path(self, name: str) -> str:
        return name if name.startswith("/proc") else super().path(name)

    def read(self, name: str) -> str:
        return f"0::{self.group}\n" if name.endswith("/cgroup") else super().read(name)


def test_a_program_that_does_not_let_go_is_named(
    tree: Path, holder: subprocess.Popen[bytes]
) -> None:
    told = rf"{CARD}: still in use after 0.3 s: bash \(pid {holder.pid}\) has /dev/dri/card0 open"
    for end, group in ((False, "/user.slice/x.scope"), (True, "/system.slice/x.service")):
        host = ThisMachine(str(tree))
        host.group = group
        with pytest.raises(HookError, match=told):
            Freed(CARD, 0.3, end).write(host, FREE)
    assert holder.poll() is None


def test_a_program_of_a_session_is_asked_and_then_killed(
    tree: Path, holder: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    # It never ends by itself or when it is asked to, so there is no need to wait for that.
    waits = iter((0, 0, 60))

    def look(host: Host, address: str, _: float) -> list[Holder]:
        return in_use.holders_after(host, address, next(waits))

    monkeypatch.setattr("vfio_hooks.knobs.not_in_use.holders_after", look)
    Freed(CARD, 9, end=True).write(ThisMachine(str(tree)), FREE)
    assert until(lambda: holder.poll() == -signal.SIGKILL, 60)
