"""Commands about PCI devices, VFs, mediated devices and USB devices."""

from vfio_hooks.migrate.meanings.meaning import Meaning

_VF_SETTINGS = (
    *("mac", "vlan", "qos", "proto", "trust", "spoofchk", "state", "max_tx_rate", "min_tx_rate"),
)
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_PCI_FILE = r"/sys/bus/pci/devices/\S*|/sys/devices/pci\S*"

MEANINGS = (
    Meaning(
        rf"^(?:write 1 ?> ?\S*/{_UUID}/remove$|mdevctl stop\b)",
        "needless",
        "mdev",
        "the mediated device is removed when the VM has ended",
    ),
    Meaning(
        r"^virsh\b.*\bnodedev-(?:detach|dettach|reattach|reset)\b",
        "table",
        "pci",
        "libvirt does it for managed='yes'; virsh in a hook can hang libvirt",
    ),
    Meaning(
        r"^virsh\b",
        "mistake",
        "",
        "a hook must not call libvirt: each waits for the other",
    ),
    Meaning(
        r"^write .*> ?\S*/sys/bus/pci/drivers/\S+/new_id",
        "mistake",
        "pci",
        "new_id takes every device of this kind, including the host's; [pci] binds a function by "
        "its address",
    ),
    Meaning(
        r"^write .*> ?\S*/sys/bus/pci/drivers/\S+/remove_id",
        "needless",
        "pci",
        "without new_id there is nothing to remove",
    ),
    Meaning(
        r"^write (?P<address>\S*) ?> ?\S*/sys/bus/pci/drivers/(?P<driver>pcieport|pci-bridge)/"
        "(?:un)?bind",
        "mistake",
        "pci",
        "a bridge is not passed to a VM, and stays with its driver",
    ),
    Meaning(
        r"^write .*> ?\S*(?:/sys/bus/pci/drivers/\S+/(?:un)?bind|/driver/unbind|driver_override|"
        r"/sys/bus/pci/drivers_probe|/sys/bus/pci/drivers/\S+/remove)$",
        "table",
        "pci",
        "each passed function gets vfio-pci by its address, and its own driver back",
    ),
    Meaning(
        r"^(?:chmod|chown|chgrp|setfacl)\b.* /dev/vfio\b",
        "needless",
        "pci",
        "libvirt gives QEMU the devices below /dev/vfio by itself",
    ),
    Meaning(r"^driverctl\b", "table", "pci", "each passed function gets vfio-pci by its address"),
    Meaning(
        r"^write .*> ?\S*(?:/remove|/sys/bus/pci/(?:devices/\S+/)?rescan)$",
        "table",
        "gpu",
        "a card that its driver does not take back is removed, and the bus is rescanned",
    ),
    Meaning(
        r"^write (?P<reset_method>[\w ?]*?) ?> ?\S*/reset_method$",
        "table",
        "gpu",
        "the card's reset is chosen",
        ("reset_method",),
    ),
    Meaning(
        r"^write (?P<d3cold>[01?]) ?> ?\S*/d3cold_allowed$",
        "table",
        "gpu",
        "whether the card may sleep deeply",
        ("d3cold",),
    ),
    Meaning(
        rf"^write (?P<power>on|auto|\?) ?> ?(?:{_PCI_FILE})power/control$",
        "table",
        "gpu",
        "whether the card may sleep",
        ("power",),
    ),
    Meaning(
        r"^write (?P<bar_sizes>\d+|\?) ?> ?\S*/resource[0-5]_resize$",
        "table",
        "gpu",
        "a BAR's size",
        ("bar_sizes",),
    ),
    Meaning(
        r"^write 1 ?> ?\S*/reset$",
        "needless",
        "pci",
        "the kernel resets a device when a VM opens and closes it",
    ),
    Meaning(
        r"^write 0 ?> ?\S*/sriov_numvfs$",
        "needless",
        "sriov",
        "the virtual functions are made, and removed again",
    ),
    Meaning(
        r"^write (?P<numvfs>[1-9]\d*) ?> ?/sys/(?:class/net|bus/pci/devices)/(?P<pf>[^/]+)/\S*"
        r"sriov_numvfs$",
        "table",
        "sriov",
        "the virtual functions are made, and removed again",
        ("pf", "numvfs"),
    ),
    Meaning(
        r"^write .*> ?\S*/sriov_numvfs$",
        "table",
        "sriov",
        "the virtual functions are made, and removed again",
    ),
    Meaning(
        r"^ip link set (?:dev )?(?P<pf>\S+) vf (?P<vf>\d+)(?: (?:mac (?P<mac>\S+)|"
        r"vlan (?P<vlan>\d+)|qos (?P<qos>\d+)|proto (?P<proto>\S+)|trust (?P<trust>on|off)|"
        r"spoofchk (?P<spoofchk>on|off)|state (?P<state>auto|enable|disable)|"
        r"max_tx_rate (?P<max_tx_rate>\d+)|min_tx_rate (?P<min_tx_rate>\d+)))*$",
        "table",
        "sriov",
        "a virtual function's settings",
        ("pf", "vf", *_VF_SETTINGS),
    ),
    Meaning(
        r"^write (?P<uuid>\S+) ?> ?(?:\S*/)?(?P<parent>[^/]+)/mdev_supported_types/"
        r"(?P<type>[^/]+)/create$",
        "table",
        "mdev",
        "the mediated device is made, and removed again",
        ("type", "parent", "uuid"),
    ),
    Meaning(
        r"^mdevctl start\b(?=.* (?:-u|--uuid)[ =](?P<uuid>\S+))"
        r"(?:(?=.* (?:-p|--parent)[ =](?P<parent>\S+)))?"
        r"(?:(?=.* (?:-t|--type)[ =](?P<type>\S+)))?",
        "table",
        "mdev",
        "the mediated device is made, and removed again",
        ("type", "parent", "uuid"),
    ),
    Meaning(
        r"^write (?P<device>\S*) ?> ?\S*/sys/bus/usb/drivers/"
        r"(?:[^/]+/unbind|(?P<driver>[^/]+)/bind)$",
        "table",
        "usb",
        "a USB device is taken from its drivers, and given back",
        ("device", "driver"),
    ),
)
