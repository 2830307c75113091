"""Rules about the hook itself: is it there, can it run, is it run."""

import os
import re

from vfio_hooks import VM_FOLDERS, config
from vfio_hooks.check.rule import Patient
from vfio_hooks.commands.executable import text_of

_NIXOS = "/var/lib/libvirt/hooks/qemu.d/vfio-hooks"


def shows_hooks(patient: Patient) -> bool:
    """Whether a missing hook can be noticed: a captured host does not have the folder."""
    return patient.host.is_this_machine or os.path.isdir(patient.paths.config)


def hook(patient: Patient) -> str:
    """The path of libvirt's hook for QEMU. NixOS' libvirt looks into a folder of its own, which
    the flake's module fills."""
    path, nixos = f"{patient.paths.config}/qemu", patient.host.path(_NIXOS)
    return nixos if not os.path.lexists(path) and os.path.exists(nixos) else path


def library(patient: Patient) -> str | None:
    """The folder of the package that our hook uses, that of one version; None without our hook."""
    found = re.search(r'^LIBRARY = "([^"]+)"', text_of(hook(patient)), re.MULTILINE)
    return found[1] if found else None


def managed(patient: Patient) -> dict[str, str]:
    """The folders of all managed VMs, by the VM's name."""
    hooks = patient.paths.config
    return {name: f"{hooks}/{VM_FOLDERS}/{name}" for name in config.managed(hooks)}


def looked_at(patient: Patient) -> dict[str, str]:
    """The managed VMs that are asked about: the domain, or all."""
    found, guest = managed(patient), patient.guest
    return {name: path for name, path in found.items() if not guest or name == guest.domain.name}


def is_executable(path: str) -> bool:
    """As libvirt sees it: a file with any of the three bits."""
    return os.path.isfile(path) and bool(os.stat(path).st_mode & 0o111)
