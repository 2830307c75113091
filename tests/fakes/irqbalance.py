"""What irqbalance answers at its control socket, as seen with 1.9.2 and 1.9.4."""

from typing import Protocol

from vfio_hooks.host.cpulist import format_mask, parse_list

SOCKET = "/run/irqbalance/irqbalance451.sock"


class Daemon(Protocol):
    """A kernel in memory, with an irqbalance."""

    files: dict[str, str]
    banned: str
    """The CPUs that it keeps off, as a list."""
    asked: str
    """Those that it will keep off from its next round on."""


def boot(kernel: Daemon, banned: str = "") -> None:
    """Start it with CPUs banned by its configuration."""
    kernel.files[SOCKET] = ""
    kernel.files["/proc/451/comm"] = "irqbalance\n"
    kernel.banned = kernel.asked = banned


def answer(kernel: Daemon, text: str) -> str:
    """The answer that it sends back."""
    if text == "setup":
        return f"SLEEP 10 BANNED {int(format_mask(parse_list(kernel.banned)), 16):08x}"
    cpus = text.removeprefix("settings cpus ")
    kernel.asked = "" if cpus == "NULL" else cpus
    return ""


def come_round(kernel: Daemon) -> None:
    """Ten seconds later."""
    kernel.banned = kernel.asked
