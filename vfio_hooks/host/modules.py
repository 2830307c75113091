"""Which kernel modules this host has, loaded or not, and what stands on what."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host


def is_loaded(host: Host, name: str) -> bool:
    """Whether a module is loaded or built in (then it has a folder only if it has options)."""
    return host.exists(f"/sys/module/{name.replace('-', '_')}")


def is_known(host: Host, name: str) -> bool:
    """Whether the running kernel has a module of that name, by depmod's lists.

    A host without these lists is one where that cannot be told: then every name is known.
    """
    release = host.maybe("/proc/sys/kernel/osrelease")
    lists = [
        text
        for file in ("modules.dep", "modules.builtin")
        if (text := host.maybe(f"/lib/modules/{release}/{file}")) is not None
    ]
    wanted = f"/{name.replace('-', '_')}.ko"
    return not lists or any(wanted in text.replace("-", "_") for text in lists)


def of_driver(host: Host, driver: str) -> str | None:
    """The module that a PCI driver is in; None where it is built in."""
    return host.link(f"/sys/bus/pci/drivers/{driver}/module")


def stack(host: Host, name: str) -> list[str]:
    """The loaded modules that have to go for `name` to go, in the order in which they can, it
    being the last; none where it is not loaded or is built in."""
    order: list[str] = []

    def visit(module: str) -> None:
        folder = f"/sys/module/{module}"
        # What is built in has no count of its users.
        if module in order or not host.exists(f"{folder}/refcnt"):
            return
        for holder in host.names(f"{folder}/holders"):
            visit(holder)
        order.append(module)

    visit(name.replace("-", "_"))
    return order
