"""Kernel modules for iommufd, out of the kernel's own source: Debian's kernels are built without.

Only Debian testing's libvirt knows iommufd, so they are built for its kernel. They take the place
of the vfio modules in a guest that runs; its image stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.vm import modules
from tests.vm.guest import Guest
from tests.vm.release import TESTING

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
    return modules.provide("iommufd", TESTING, BUILD)


@contextmanager
def loaded(guest: Guest, built: Path) -> Iterator[None]:
    """In the place of the kernel's own modules, until the block ends."""
    guest.run(f"mkdir {FOLDER}")
    for name in MODULES:
        guest.put_bytes(f"{FOLDER}/{name}.ko", (built / f"{name}.ko").read_bytes())
    guest.run(LOAD)
    try:
        yield
    finally:
        guest.run(UNLOAD)
