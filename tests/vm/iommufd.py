"""Kernel modules for iommufd, out of the kernel's own source: Debian's kernels are built without.

Only Debian testing's libvirt knows iommufd, so they are built for its kernel. They take the place
of the vfio modules in a guest that runs; its image stays as it is.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.vm import build, cache, tools
from tests.vm.guest import Guest
from tests.vm.image import Image
from tests.vm.process import progress, run_logged
from tests.vm.release import TESTING, Release

MODULES = ("iommufd_driver", "iommufd", "vfio", "vfio_iommu_type1", "vfio-pci-core", "vfio-pci")
"""In the order in which they are loaded."""
# make has to be told of a setting, and the compiler, too: both take the kernel's own otherwise.
# IOMMUFD_DRIVER_CORE is built into a kernel that has iommufd, but can be a module.
BUILD = """\
set -eu
headers=/usr/src/linux-headers-$1
cd /usr/src
source=$(basename linux-source-*.tar.xz .tar.xz)
tar -xf $source.tar.xz $source/drivers/vfio $source/drivers/iommu $source/lib/interval_tree.c
cd $source
# The kernel exports all of this but for the part that only iommufd needs.
sed /EXPORT_SYMBOL/d lib/interval_tree.c > drivers/iommu/iommufd/interval_tree.c
echo 'iommufd-y += interval_tree.o' >> drivers/iommu/iommufd/Makefile
compile() {
    make -j2 -C $headers M=$PWD/drivers/$1 CONFIG_IOMMUFD=m CONFIG_IOMMUFD_DRIVER_CORE=m \\
        CONFIG_VFIO_DEVICE_CDEV=y KCFLAGS="-DCONFIG_IOMMUFD_MODULE=1 \\
        -DCONFIG_IOMMUFD_DRIVER_CORE_MODULE=1 -DCONFIG_VFIO_DEVICE_CDEV=1 \\
        -DCONFIG_INTERVAL_TREE_SPAN_ITER=1" "${@:2}" modules
}
compile iommu/iommufd
compile vfio KBUILD_EXTRA_SYMBOLS=$PWD/drivers/iommu/iommufd/Module.symvers
mkdir /built
find drivers -name '*.ko' -exec strip --strip-debug {} ';' -exec mv {} /built ';'
"""
FOLDER = "/run/iommufd"
LOAD = f"""\
set -eu
modprobe --remove vfio-pci vfio_iommu_type1
modprobe irqbypass
for name in {" ".join(MODULES)}; do insmod {FOLDER}/$name.ko; done
udevadm settle
test -c /dev/iommu
"""
UNLOAD = f"rmmod {' '.join(reversed(MODULES))} && rm -r {FOLDER}"


def provide() -> Path:
    """The folder of the modules for the kernel of the image, built now when it is not there."""
    image = build.image(TESTING)
    kernel = _version(image)
    entry = cache.root() / f"iommufd-{cache.key([kernel, BUILD])}"
    if not entry.exists():
        with cache.locked("iommufd"):
            if not entry.exists():
                _build(kernel, entry)
    return entry


@contextmanager
def loaded(guest: Guest, modules: Path) -> Iterator[None]:
    """In the place of the kernel's own modules, until the block ends."""
    guest.run(f"mkdir {FOLDER}")
    for name in MODULES:
        guest.put_bytes(f"{FOLDER}/{name}.ko", (modules / f"{name}.ko").read_bytes())
    guest.run(LOAD)
    try:
        yield
    finally:
        guest.run(UNLOAD)


def _version(image: Image) -> str:
    """As in "7.2.12+deb14-amd64". Documentation/arch/x86/boot.rst, kernel_version"""
    data = image.kernel.read_bytes()[: 1 << 16]
    (offset,) = struct.unpack_from("<H", data, 0x20E)
    return data[offset + 0x200 :].split(b" ", 1)[0].decode()


def _build(kernel: str, entry: Path) -> None:
    tools.ensure("mmdebstrap", "unshare", "setpriv")
    log = cache.root() / "iommufd.log"
    log.unlink(missing_ok=True)
    source = ".".join(kernel.split(".")[:2])
    packages = [f"linux-headers-{kernel}", f"linux-source-{source}", "make", "xz-utils"]
    with (
        progress(f"{TESTING}: building iommufd for its kernel", 240),
        cache.new_entry("iommufd", entry) as work,
    ):
        (work / "build.sh").write_text(BUILD, encoding="utf-8")
        words = [tools.program("mmdebstrap"), "--mode=root", "--variant=essential"]
        words += ["--format=directory", f"--include={','.join(packages)}"]
        words += [f"--aptopt={option}" for option in Release(TESTING).apt_options]
        words += [f'--customize-hook=chroot "$1" bash -s {kernel} < {work / "build.sh"}']
        run_logged(
            [*words, TESTING, str(work / "root")],
            f"build iommufd for Linux {kernel} (if the mirror has a newer one by now, remove the "
            "cached image and build again)",
            timeout=1800,
            log=log,
        )
        for path in sorted((work / "root/built").iterdir()):
            shutil.move(path, work)
        shutil.rmtree(work / "root")
