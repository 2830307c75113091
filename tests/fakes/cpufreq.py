"""What the kernel's CPU frequency drivers do when the files of a policy are written.

From drivers/cpufreq/cpufreq.c, intel_pstate.c and amd-pstate.c of Linux 6.12. Both active-mode
drivers hold the energy preference at "performance" while the governor is performance; only
Intel's knows afterwards what it was before.
"""

import errno
from typing import Protocol

FOLDER = "/sys/devices/system/cpu/cpufreq"
PREFERENCES = "default performance balance_performance balance_power power"
ACTIVE = ("intel_pstate", "amd-pstate-epp")


class Files(Protocol):
    """A kernel in memory."""

    files: dict[str, str]
    remembered: dict[str, str]
    """Energy preferences that intel_pstate keeps for the time after performance, by path."""


def add_policy(
    kernel: Files,
    number: int,
    cpus: str,
    driver: str = "acpi-cpufreq",
    governor: str = "schedutil",
    preference: str = "balance_performance",
) -> None:
    """Put a policy into a kernel; `cpus` is separated by blanks, as the kernel prints it."""
    active = driver in ACTIVE
    values = {
        "related_cpus": cpus,
        "affected_cpus": cpus,
        "scaling_driver": driver,
        "scaling_governor": governor,
        "scaling_available_governors": "performance " + ("powersave" if active else "schedutil"),
        "cpuinfo_min_freq": "1800000",
        "scaling_min_freq": "1800000",
        "scaling_max_freq": "3600000",
    }
    if active:
        held = governor == "performance"
        values["energy_performance_preference"] = "performance" if held else preference
        values["energy_performance_available_preferences"] = PREFERENCES
        path = f"{FOLDER}/policy{number}/energy_performance_preference"
        kernel.remembered[path] = preference
    else:
        values["scaling_available_frequencies"] = "3600000 2800000 1800000"
    for name, text in values.items():
        kernel.files[f"{FOLDER}/policy{number}/{name}"] = text + "\n"


def shown(kernel: Files, name: str, text: str) -> str:
    """What a policy's file shows after a write. Raises OSError as the kernel does."""
    folder, _, file = name.rpartition("/")
    files = {
        path.removeprefix(folder + "/"): value.strip()
        for path, value in kernel.files.items()
        if path.startswith(folder + "/")
    }
    active = files.get("scaling_driver") in ACTIVE
    if file == "scaling_governor" and "scaling_available_governors" in files:
        if text not in files["scaling_available_governors"].split():
            raise OSError(errno.EINVAL, "Invalid argument", name)
        if active:
            _govern(kernel, folder, files, text)
    elif file == "energy_performance_preference":
        if files["scaling_governor"] == "performance" and active and text != "performance":
            raise OSError(errno.EBUSY, "Device or resource busy", name)
        if text not in PREFERENCES.split():
            raise OSError(errno.EINVAL, "Invalid argument", name)
        return "balance_performance" if text == "default" else text
    elif file == "scaling_min_freq":
        there = sorted(map(int, files.get("scaling_available_frequencies", text).split()))
        return str(next((one for one in there if one >= int(text)), there[-1]))
    return text


def _govern(kernel: Files, folder: str, files: dict[str, str], governor: str) -> None:
    preference = f"{folder}/energy_performance_preference"
    now = files["energy_performance_preference"]
    if governor == files["scaling_governor"]:
        return
    if governor == "performance":
        kernel.remembered[preference] = now
        kernel.files[preference] = "performance\n"
    elif now == "performance" and files["scaling_driver"] == "intel_pstate":
        kernel.files[preference] = kernel.remembered[preference] + "\n"
