"""Which kernel modules this host has, loaded or not."""

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
