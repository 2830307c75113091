"""What `check --fix` makes of domains of users, before a real libvirt, which still takes them."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from uuid import NAMESPACE_DNS, uuid5

import pytest

from tests.defects import edited
from tests.users.cases import CASES
from tests.users.faults import FAULTS
from tests.users.strangers import STRANGERS, xml_of
from tests.users.styles import STYLES
from tests.vm.guest import Guest
from vfio_hooks.check.fixing import mend
from vfio_hooks.check.rule import Patient
from vfio_hooks.host import Host
from vfio_hooks.paths import Paths

pytestmark = [pytest.mark.vm, pytest.mark.matrix_only]
FOLDER = "/var/tmp/definable"
FEWEST = 25
"""Of the domains that libvirt takes as they are; it refuses some for a planted fault, and others
for SPICE, which the emulated host's QEMU does not have."""
LACKING = (
    ("type='kvm'|type=\"kvm\"", "type='qemu'"),
    ("<uuid>[^<]*</uuid>", ""),
    ("<emulator>[^<]*</emulator>", ""),
    (" firmware=['\"]efi['\"]", ""),
    ("(?s)<firmware>.*?</firmware>", ""),
    ("(?s)<tpm .*?</tpm>", ""),
    ("model type=['\"]qxl['\"][^/>]*", "model type='vga'"),
    ("machine=['\"](pc-)?q35[^'\"]*['\"]", "machine='q35'"),
    ("machine=['\"]pc-i440fx[^'\"]*['\"]", "machine='pc'"),
)
"""What the emulated host lacks: KVM, firmware, a TPM, and QEMU's versions and places."""


def domains(tmp_path: Path) -> Iterator[tuple[str, bytes, bytes]]:
    """Each as it is and as --fix leaves it, with a file's name."""
    texts = {name: (build, xml_of(name)) for name, (build, _) in STRANGERS.items()}
    for number, (base, *faults) in enumerate(CASES):
        edits = [edit for name in faults for edit in FAULTS[name].edits]
        texts[f"case{number}"] = (STYLES[base].host, edited(edits, STYLES[base].xml).encode())
    for name, (build, xml) in texts.items():
        root = tmp_path / name
        build(root)
        patient = Patient(Host(str(root)), Paths(config=str(root)))
        yield name, here(name, xml), here(name, mend(patient, xml).after)


def here(name: str, xml: bytes) -> bytes:
    """The domain with a name of its own, and nothing that the emulated host lacks."""
    text, own = xml.decode(), f"<name>{name}</name><uuid>{uuid5(NAMESPACE_DNS, name)}</uuid>"
    for pattern, new in (*LACKING, ("<name>[^<]*</name>", own)):
        text = re.sub(pattern, new, text, count=1)
    return text.encode()


def test_what_is_mended_can_still_be_defined(guest: Guest, tmp_path: Path) -> None:
    packed = io.BytesIO()
    lines = []
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, *both in domains(tmp_path):
            for state, data in zip(("before", "after"), both, strict=True):
                entry = tarfile.TarInfo(f"{name}.{state}.xml")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
                lines.append(f"define --validate {FOLDER}/{name}.{state}.xml")
            lines.append(f"undefine {name} --nvram")
    guest.put_bytes(f"{FOLDER}.tar.gz", packed.getvalue())
    guest.put(f"{FOLDER}.virsh", "\n".join(lines) + "\n")
    guest.run(f"mkdir {FOLDER} && tar -xzf {FOLDER}.tar.gz -C {FOLDER}")
    told = guest.run(f"virsh < {FOLDER}.virsh 2>&1; rm -r {FOLDER}*", timeout=600).stdout
    defined = set(re.findall(r"defined from \S*/(\S+)\.xml", told))
    whole = {name.removesuffix(".before") for name in defined if name.endswith(".before")}
    assert len(whole) >= FEWEST, told
    assert {name for name in whole if f"{name}.after" not in defined} == set(), told
