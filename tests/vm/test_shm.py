"""The shm plugin with QEMU, AppArmor and a user who prepares what is to be used."""

from __future__ import annotations

import pytest

from tests.vm.direct import Direct
from tests.vm.domains import Domain
from tests.vm.guest import Guest
from tests.vm.lending import managed_vm
from tests.vm.release import USER

SHMEM = """\
<shmem name='{}'><model type='ivshmem-plain'/><size unit='M'>2</size></shmem>"""
GLASS, SCREAM = "looking-glass", "scream"


def access(guest: Guest, name: str) -> str:
    """Owner, group, permissions and size of a file in /dev/shm."""
    return guest.run(f"stat --format='%U %G %a %s' /dev/shm/{name}").stdout.strip()


def test_qemu_opens_a_file_that_is_a_user_s(hooked: Guest) -> None:
    """One is made and goes again; the other was there, with content, and is as it was."""
    hooked.run(
        f"cd /dev/shm && head --bytes 2M /dev/zero > {SCREAM} && printf sound | dd of={SCREAM}"
        f" conv=notrunc status=none && chmod 644 {SCREAM}"
    )
    devices = SHMEM.format(GLASS) + SHMEM.format(SCREAM)
    domain = Domain("glass", extra_devices=devices)
    try:
        with managed_vm(hooked, domain, f'[[shm]]\nowner = "{USER}"\n'):
            hooked.start(domain.name)
            print(hooked.run("ls -l /dev/shm").stdout)
            for name in (GLASS, SCREAM):
                assert access(hooked, name) == f"{USER} kvm 660 2097152"
            pid = hooked.read("/run/libvirt/qemu/glass.pid").strip()
            opened = hooked.run(f"ls -l /proc/{pid}/fd").stdout
            assert f"/dev/shm/{GLASS}\n" in opened
            assert f"/dev/shm/{SCREAM}\n" in opened
            assert hooked.run(f"head --bytes 5 /dev/shm/{SCREAM}", user=USER).stdout == "sound"
            hooked.destroy(domain.name)
            hooked.run(f"test ! -e /dev/shm/{GLASS}")
            assert access(hooked, SCREAM) == "root root 644 2097152"
    finally:
        hooked.run(f"rm -f /dev/shm/{SCREAM} /dev/shm/{GLASS}")


@pytest.mark.matrix_only
def test_what_a_user_has_prepared(hooked: Guest) -> None:
    """Anybody may put a file there, and keep it open; or a link to what only root may change."""
    vms = Direct(hooked)
    vms.manage(Domain("gaming", extra_devices=SHMEM.format(GLASS)), "[[shm]]\n")
    path = f"/dev/shm/{GLASS}"
    try:
        hooked.run(f"head --bytes 2M /dev/zero > {path}", user=USER)
        assert f"{path} belongs to another user ({USER}, uid 1000)" in vms.start("gaming")
        hooked.run(f"rm {path} && ln -s /etc/shadow {path}", user=USER)
        before = hooked.run("stat --format=%a%U%G /etc/shadow").stdout
        assert f"{path}: a symbolic link: it is left alone" in vms.start("gaming")
        assert hooked.run("stat --format=%a%U%G /etc/shadow").stdout == before
        hooked.run(f"rm {path}", user=USER)
        assert vms.start("gaming") == ""
        assert access(hooked, GLASS) == "libvirt-qemu kvm 660 2097152"
        vms.stop("gaming")
        hooked.run(f"test ! -e {path}")
    finally:
        hooked.run(f"rm -f {path}")
        vms.forget()
