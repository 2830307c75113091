"""An ACPI table that gives the emulated CPUs three performance states each.

QEMU offers no cpufreq by itself. acpi_cpufreq takes these states, drives them by writes to
two I/O ports that no device listens to, and so every governor works for real.
"""

from __future__ import annotations

from pathlib import Path

from tests.vm.emulator import Emulator
from tests.vm.process import run

# (MHz, mW), fastest first, as _PSS wants it.
STATES = ((3600, 120_000), (2800, 80_000), (1800, 40_000))
CONTROL_PORT, STATUS_PORT = 0xE00, 0xE01


def _register(port: int) -> str:
    return f"ResourceTemplate () {{ Register (SystemIO, 8, 0, 0x{port:04X}) }}"


def source(cpus: int) -> str:
    """The table's ASL text for CPUs 0 to `cpus` - 1, named as QEMU's own tables name them."""
    states = ",\n".join(
        f"            Package () {{ {mhz}, {milliwatts}, 10, 10, {number}, {number} }}"
        for number, (mhz, milliwatts) in enumerate(STATES)
    )
    lines = ['DefinitionBlock ("", "SSDT", 1, "VFIOHK", "CPUFREQ", 1)', "{"]
    for cpu in range(cpus):
        name = f"\\_SB.CPUS.C{cpu:03X}"
        lines += [
            f"    External ({name}, DeviceObj)",
            f"    Scope ({name})",
            "    {",
            f"        Name (_PCT, Package () {{ {_register(CONTROL_PORT)}, "
            f"{_register(STATUS_PORT)} }})",
            f"        Name (_PSS, Package ()\n        {{\n{states}\n        }})",
            "        Name (_PPC, 0)",
            "    }",
        ]
    return "\n".join([*lines, "}", ""])


def compiled(emulator: Emulator, cpus: int, folder: Path) -> Path:
    """Compile the table into `folder`; the path is what QEMU's -acpitable takes."""
    (folder / "cpufreq.asl").write_text(source(cpus), encoding="utf-8")
    run(
        [*emulator.iasl, "-p", "cpufreq", "cpufreq.asl"],
        "compile the ACPI table that gives the emulated host its cpufreq",
        timeout=60,
        cwd=folder,
    )
    return folder / "cpufreq.aml"
