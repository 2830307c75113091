"""The kernel's text consoles. Documentation/driver-api/console.rst in the kernel's sources."""

from __future__ import annotations

from vfio_hooks.host.framebuffer import firmware_framebuffers
from vfio_hooks.host.pci import DEVICES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host

FOLDER = "/sys/class/vtconsole"
_ON_FRAMEBUFFER = "frame buffer device"


def framebuffer_switches(host: Host) -> list[str]:
    """The `bind` files of the consoles that draw on a framebuffer; none while there is no
    framebuffer at all."""
    return [
        f"{FOLDER}/{name}/bind"
        for name in host.names(FOLDER)
        if _ON_FRAMEBUFFER in (host.maybe(f"{FOLDER}/{name}/name") or "")
    ]


def can_be_bound_again(host: Host) -> bool:
    """Whether a console that was unbound by hand can be bound by hand again.

    The kernel only gives it back what the console of the boot, marked "(S)", has then. If the host
    booted with VGA text, and a DRM driver has removed that, there is nothing to give. Then only the
    driver's return brings the console back, and writing a 1 has no effect and gives no error.
    """
    return any(
        (host.maybe(f"{FOLDER}/{name}/name") or "").startswith("(S)") for name in host.names(FOLDER)
    )


def is_console(host: Host, address: str) -> bool:
    """Whether a text console draws on a graphics card. The kernel does not say on which; usually it
    is the card that the host boots with, unless nothing makes a framebuffer of that."""
    card = f"{DEVICES}/{address}"
    return (
        host.maybe(f"{card}/boot_vga") == "1"
        and any(host.maybe(switch) == "1" for switch in framebuffer_switches(host))
        and (host.exists(f"{card}/graphics") or bool(firmware_framebuffers(host, address)))
    )
