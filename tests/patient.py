"""A host in a few files, with a domain on it, for rules to look at."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.hosttree import domain_xml
from vfio_hooks.check.rule import Guest, Patient
from vfio_hooks.domain import parse
from vfio_hooks.domain.text import element
from vfio_hooks.host import Host
from vfio_hooks.paths import Paths
from vfio_hooks.plugins import load

Tree = Mapping[str, str]
"""The texts of files by their paths; "→ target" is a symbolic link, and a path that ends with a
slash an empty folder. Executable is what begins with "#!" or ends in ".sh"."""

PINNED = "<cputune><vcpupin vcpu='0' cpuset='2'/><vcpupin vcpu='1' cpuset='3'/></cputune>"


def grow(root: Path, tree: Tree) -> Path:
    """Make the files of a tree."""
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        elif text.startswith("→ "):
            path.symlink_to(text[2:])
        else:
            path.write_text(text + "\n")
            path.chmod(0o755 if text.startswith("#!") or name.endswith(".sh") else 0o644)
    return root


def function(
    address: str, device_class: str, driver: str = "", group: str = "", ids: str = "1002:73bf"
) -> dict[str, str]:
    """A PCI function's files."""
    folder = f"sys/bus/pci/devices/{address}"
    vendor, device = ids.split(":")
    tree = {f"{folder}/class": device_class, f"{folder}/vendor": f"0x{vendor}"}
    tree[f"{folder}/device"] = f"0x{device}"
    if driver:
        tree[f"{folder}/driver"] = f"→ ../../drivers/{driver}"
    if group:
        tree[f"{folder}/iommu_group"] = f"→ ../../../../kernel/iommu_groups/{group}"
        tree[f"sys/kernel/iommu_groups/{group}/devices/{address}"] = f"→ /{folder}"
    return tree


def guest(xml: str, running: bool = False) -> Guest:
    return Guest(parse(xml.encode()), element(xml.encode()), running)


def patient(
    root: Path, xml: str | None = None, tables: str = "", state: str = "run/vfio-hooks"
) -> Patient:
    """The host below `root`, whose hook and journals are below it, too. `tables` are names; with
    a key: "pci.group=bind"."""
    paths = Paths(f"{root}/etc/libvirt/hooks", f"{root}/{state}", str(root))
    options = dict(map(_options, tables.split()))
    stopped = (options["service"].name,) if "service" in options else ()
    return Patient(Host(str(root)), paths, guest(xml) if xml else None, options, stopped=stopped)


def _options(word: str) -> tuple[str, Any]:
    name, _, rest = word.partition(".")
    key, _, value = rest.partition("=")
    return name, load(name).Options(**({key: value} if key else {}))


def win11(more: str = PINNED, passed: tuple[str, ...] = (), kind: str = "kvm") -> str:
    """A domain's XML; `more` stands before its devices."""
    xml = domain_xml(functions=passed, more=f"<memory unit='GiB'>8</memory><vcpu>2</vcpu>{more}")
    return xml.replace("type='kvm'", f"type='{kind}'", 1)
