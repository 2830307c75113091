"""Which tests are a module's own, the quickest first. They run the module in pytest's process."""

QUICK = {
    "host/cpulist.py": ("cpulist",),
    "sharing.py": ("sharing", "ledger", "value"),
    "engine/__init__.py": ("engine", "plan", "immovable", "third_value", "journal", "ledger"),
    "engine/applying.py": ("engine", "plan", "immovable", "third_value", "journal", "ledger"),
    "engine/disk.py": ("engine", "journal"),
    "engine/journal.py": ("engine", "journal", "ledger"),
    "engine/ledger.py": ("engine", "ledger", "value", "irqs", "journal"),
    "engine/plan.py": ("plan", "value", "engine", "ledger", "irqs"),
    "engine/sealed.py": ("ledger", "engine"),
    "engine/state.py": ("engine", "journal"),
    "engine/undoing.py": ("undoing", "engine", "third_value", "immovable", "irqs", "ledger"),
    "engine/undone.py": ("undone", "cli_plan"),
    "engine/value.py": ("value", "third_value", "undone", "ledger"),
    "knobs/__init__.py": ("knobs",),
    "knobs/allowed_cpus.py": ("small_knobs", "cpus", "plugged"),
    "knobs/announced.py": ("small_knobs", "pci"),
    "knobs/aside.py": ("aside", "pci"),
    "knobs/bar_size.py": ("gpu",),
    "knobs/base.py": ("value", "undoing", "third_value", "plan", "foresee"),
    "knobs/boot_picture.py": ("small_knobs", "boot_picture"),
    "knobs/command.py": ("small_knobs", "engine", "service"),
    "knobs/console.py": ("small_knobs", "session"),
    "knobs/controller.py": ("small_knobs", "cpus_plain"),
    "knobs/cpu_set.py": ("small_knobs", "irqs", "cpus"),
    "knobs/display_layout.py": ("display",),
    "knobs/energy.py": ("governor", "immovable", "third_value"),
    "knobs/file.py": ("file_knob", "write", "third_value", "foresee", "governor"),
    "knobs/frequency.py": ("governor", "third_value"),
    "knobs/governor.py": ("governor", "third_value"),
    "knobs/group_cpus.py": ("cpus",),
    "knobs/host_tasks.py": ("cpus_plain",),
    "knobs/irq.py": ("irqs", "immovable", "third_value"),
    "knobs/irqbalance.py": ("irqs",),
    "knobs/lent_power.py": ("small_knobs", "pci", "in_use"),
    "knobs/mediated.py": ("mdev",),
    "knobs/module.py": ("small_knobs", "session", "pci"),
    "knobs/not_in_use.py": ("freeing", "session"),
    "knobs/pages.py": ("pages", "foresee", "hugepages"),
    "knobs/partition.py": ("small_knobs", "partition", "foresee"),
    "knobs/pci_driver.py": ("pci", "value"),
    "knobs/pci_return.py": ("pci", "gpu"),
    "knobs/platform_driver.py": ("small_knobs", "gpu", "session"),
    "knobs/shared_file.py": ("shm",),
    "knobs/tasks.py": ("cpus", "cpus_plain"),
    "knobs/thread.py": ("cpus", "plan"),
    "knobs/transient.py": ("service", "power_profile", "process"),
    "knobs/trigger.py": ("small_knobs", "write", "plan"),
    "knobs/unit.py": ("unit", "service"),
    "knobs/usb_driver.py": ("usb",),
    "knobs/vf_count.py": ("sriov",),
    "knobs/vf_setting.py": ("sriov",),
    "knobs/watchdog.py": ("memory", "third_value", "foresee"),
}
"""The tests for each module."""
SLOW = {
    "sharing.py": ("interleavings",),
    "engine": ("crashes", "interleavings"),
    "knobs": ("crashes",),
}
"""Those of a module, or of a folder, for survivors alone: they take 15 s each."""


def own(module: str, with_slow: bool) -> list[str]:
    """The files with the tests of a module, such as "engine/disk.py"."""
    names = QUICK[module]
    if with_slow:
        names += SLOW.get(module) or SLOW.get(module.partition("/")[0], ())
    return [f"tests/test_{name}.py" for name in names]
