"""Which kernel modules this host has, loaded or not, and which depends on which."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host


def is_loaded(host: Host, name: str) -> bool:
    """Whether a module is loaded or built in (then it has a folder only if it has options)."""
    return host.exists(f"/sys/module/{name.replace('-', '_')}")


def folder(host: Host) -> str:
    """Where the running kernel's modules are, with depmod's lists of them."""
    return f"/lib/modules/{host.maybe('/proc/sys/kernel/osrelease')}"


def is_known(host: Host, name: str) -> bool:
    """Whether the running kernel has a module of that name, by depmod's lists.

    Without these lists nothing is known, so the answer is yes for every name.
    """
    place = folder(host)
    lists = [
        text
        for file in ("modules.dep", "modules.builtin")
        if (text := host.maybe(f"{place}/{file}")) is not None
    ]
    wanted = f"/{name.replace('-', '_')}.ko"
    return not lists or any(wanted in text.replace("-", "_") for text in lists)


def of_driver(host: Host, driver: str) -> str | None:
    """The module that a PCI driver is in; None if it is built in."""
    return host.link(f"/sys/bus/pci/drivers/{driver}/module")


def stack(host: Host, name: str) -> list[str]:
    """The loaded modules that have to be unloaded before `name`, and it as the last one, in an
    order that works; none if it is not loaded or is built in."""
    order: list[str] = []

    def visit(module: str) -> None:
        folder = f"/sys/module/{module}"
        # A module that is built in has no count of its users.
        if module in order or not host.exists(f"{folder}/refcnt"):
            return
        for holder in host.names(f"{folder}/holders"):
            visit(holder)
        order.append(module)

    visit(name.replace("-", "_"))
    return order
