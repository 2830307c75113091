"""Commands about kernel modules."""

from vfio_hooks.migrate.meanings.meaning import Meaning

_UNLOAD = r"^(?:modprobe (?:-\S+ )*(?:-\w*r\w*|--remove)|rmmod)\b"

MEANINGS = (
    Meaning(
        rf"{_UNLOAD}.*\b(?:drm_kms_helper|drm_ttm_helper|drm|fb\w*|ipmi_\w+)\b(?!.*nvidia)",
        "needless",
        "session",
        "these modules hold no card",
    ),
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
        rf"{_UNLOAD}.*\b(?:snd_hda\w*|i2c_nvidia_gpu|xhci\w*|ucsi_ccg)\b",
        "table",
        "pci",
        "each passed function is taken from its driver; the module may stay loaded",
    ),
    Meaning(
        r"^(?:modprobe|rmmod)\b.*\bvfio",
        "needless",
        "pci",
        "vfio's modules are loaded when a device needs them, and may stay loaded",
    ),
    Meaning(
        r"^(?:modprobe|rmmod)\b.*\bkvmfr\b",
        "table",
        "shm",
        "its module is loaded with the size that the domain asks for, and stays loaded",
    ),
    Meaning(
        r"^modprobe\b.*\b(?:nvidia|amdgpu|radeon|nouveau|i915|xe|drm|snd_hda|i2c_nvidia|ucsi|"
        r"gpu_sched|ttm|i2c_algo_bit|backlight|ipmi_)",
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
