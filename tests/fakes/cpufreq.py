"""What the kernel's CPU frequency drivers do when the files of a policy are written.

From drivers/cpufreq/cpufreq.c, cpufreq_governor.c, intel_pstate.c and amd-pstate.c of Linux 6.12.
Both active-mode drivers hold the energy preference at "performance" while the governor is
performance; only Intel's knows afterwards what it was before.
"""

import errno
from typing import Protocol

FOLDER = "/sys/devices/system/cpu/cpufreq"
PREFERENCES = "default performance balance_performance balance_power power"
LATENCY = "pm_qos_resume_latency_us"
ACTIVE = ("intel_pstate", "amd-pstate-epp")

TUNABLES = {
    "schedutil": {"rate_limit_us": "2000"},
    "ondemand": {"sampling_rate": "4000", "up_threshold": "95"},
    "conservative": {"down_threshold": "20", "up_threshold": "80"},
}
"""A governor's, and what they are when the first policy comes to it; the last one takes them."""


class Files(Protocol):
    """A kernel in memory."""

    files: dict[str, str]
    remembered: dict[str, str]
    """Energy preferences that intel_pstate keeps for the time after performance, by path."""
    per_policy: bool
    """Whether each policy has tunables of its own, as the driver wants it."""


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
    if not active:
        _enter(kernel, f"{FOLDER}/policy{number}", governor)


def add_latency(kernel: Files, *cpus: int) -> None:
    """Give these CPUs their files for the exit latency that their idle states may have."""
    for cpu in cpus:
        kernel.files[f"/sys/devices/system/cpu/cpu{cpu}/power/{LATENCY}"] = "0\n"


def latency_shown(name: str, text: str) -> str:
    """What the file shows after a write: see drivers/base/power/sysfs.c."""
    if text != "n/a" and not 0 <= int(text) < (1 << 31) - 1:
        raise OSError(errno.EINVAL, "Invalid argument", name)
    return text


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
        elif text != files[file]:
            kernel.files[name] = text + "\n"
            _enter(kernel, folder, text)
            _leave(kernel, folder, files[file])
    elif file == "energy_performance_preference":
        if files["scaling_governor"] == "performance" and active and text != "performance":
            raise OSError(errno.EBUSY, "Device or resource busy", name)
        if text not in PREFERENCES.split():
            raise OSError(errno.EINVAL, "Invalid argument", name)
        return "balance_performance" if text == "default" else text
    elif folder.endswith("/conservative"):
        now = {**files, file: text}
        if int(now["down_threshold"]) >= int(now["up_threshold"]):
            raise OSError(errno.EINVAL, "Invalid argument", name)
    elif file == "scaling_min_freq":
        there = sorted(map(int, files.get("scaling_available_frequencies", text).split()))
        return str(next((one for one in there if one >= int(text)), there[-1]))
    return text


def _enter(kernel: Files, policy: str, governor: str) -> None:
    """A policy switches to a governor."""
    folder = policy if kernel.per_policy else FOLDER
    for file, text in TUNABLES.get(governor, {}).items():
        kernel.files.setdefault(f"{folder}/{governor}/{file}", text + "\n")


def _leave(kernel: Files, policy: str, governor: str) -> None:
    folder = policy if kernel.per_policy else FOLDER
    users = [
        path
        for path, text in kernel.files.items()
        if path.endswith("/scaling_governor") and text == f"{governor}\n"
    ]
    if kernel.per_policy or not users:
        for file in TUNABLES.get(governor, {}):
            del kernel.files[f"{folder}/{governor}/{file}"]


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
