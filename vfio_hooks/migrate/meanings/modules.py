"""Commands about kernel modules."""

from vfio_hooks.migrate.meanings.meaning import Meaning

_CARDS = r"amdgpu|radeon|nouveau|i915|xe\b"
_SHARED = r"intel_gtt|video|cec|mxm_wmi|amdxcp|gpu_sched|ttm|i2c_algo_bit|backlight"
"""Modules that drivers of cards have in common."""
_PCI_DRIVERS = (
    r"snd_hda\w*|i2c_nvidia_gpu|xhci\w*|ehci\w*|ucsi_ccg|nvme|ahci|e1000e?|ig[bc]|ixgbe|r81\d\d|"
    r"atlantic|alx|tg3|bnx2x?|iwl(?:wifi|mvm)|ath\d+k\w*|mt7\w+|rtw\d+\w*|mlx[45]_core|thunderbolt"
)
"""Drivers of functions that are passed to VMs, beside cards."""
_UNLOAD = r"^(?:modprobe (?:-\S+ )*(?:-\w*r\w*|--remove)|rmmod)\b"

MEANINGS = (
    Meaning(
        rf"{_UNLOAD}.*\bnvidia",
        "table",
        "session",
        "nvidia's modules are unloaded in the right order, and loaded again",
        ("modules=nvidia",),
    ),
    Meaning(
        rf"{_UNLOAD}.*\b(?P<modules>amdgpu|radeon|nouveau|i915|xe)\b",
        "table",
        "session",
        "the card is taken from its driver, and modules that are named are unloaded",
        ("modules",),
    ),
    Meaning(
        rf"{_UNLOAD}.*\b(?:{_PCI_DRIVERS})\b",
        "table",
        "pci",
        "each passed function is taken from its driver; the module may stay loaded",
    ),
    Meaning(
        rf"{_UNLOAD}.*\b(?:drm(?:_\w+)?|fb\w*|ipmi_\w+|{_SHARED})\b",
        "needless",
        "session",
        "these modules hold no card",
    ),
    Meaning(
        r"^(?:modprobe|rmmod)\b.*\bvfio",
        "needless",
        "pci",
        "vfio's modules are loaded when a device needs them, and may stay loaded",
    ),
    Meaning(
        rf"(?!{_UNLOAD})^modprobe (?:-\S+ )*kvm(?:[_-](?:intel|amd))?$",
        "needless",
        "",
        "it is loaded at boot, and a VM that needs KVM does not start without it",
    ),
    Meaning(
        r"^(?:modprobe|rmmod)\b.*\bkvmfr\b",
        "table",
        "shm",
        "its module is loaded with the size that the domain asks for, and stays loaded",
    ),
    Meaning(
        # Not what a parameter is called: v4l2loopback video_nr=10.
        r"^modprobe (?:[\w?-]+ )*\??"
        rf"(?:nvidia[\w-]*|{_CARDS}|drm[\w-]*|ipmi_\w+|{_SHARED}|{_PCI_DRIVERS})(?: |$)",
        "needless",
        "session",
        "the host's drivers come back by themselves",
    ),
    Meaning(
        r"^(?:nvidia-xconfig|nvidia-smi|optimus-manager|prime-select|supergfxctl|envycontrol)\b",
        "keep",
        "",
        "a setting of another tool",
    ),
)
