"""Which tests are a module's own, the quickest first. They run the module in pytest's process."""

QUICK = {
    "host/cpulist.py": ("cpulist",),
    "sharing.py": ("sharing", "ledger", "value"),
    "engine/__init__.py": ("engine", "plan", "immovable", "third_value", "journal", "ledger"),
    "engine/disk.py": ("engine", "journal"),
    "engine/journal.py": ("engine", "journal", "ledger"),
    "engine/ledger.py": ("engine", "ledger", "value", "irqs", "journal"),
    "engine/plan.py": ("plan", "value", "engine", "ledger", "irqs"),
    "engine/sealed.py": ("ledger", "engine"),
    "engine/state.py": ("engine", "journal"),
    "engine/undoing.py": ("undoing", "engine", "third_value", "immovable", "irqs", "ledger"),
    "engine/undone.py": ("undone", "cli_plan"),
    "engine/value.py": ("value", "third_value", "undone", "ledger"),
}
"""The tests for each module."""
SLOW = {
    "sharing.py": ("interleavings",),
    "engine": ("crashes", "interleavings"),
}
"""Those of a module, or of a folder, for survivors alone: they take 15 s each."""


def own(module: str, with_slow: bool) -> list[str]:
    """The files with the tests of a module, such as "engine/disk.py"."""
    names = QUICK[module]
    if with_slow:
        names += SLOW.get(module) or SLOW.get(module.partition("/")[0], ())
    return [f"tests/test_{name}.py" for name in names]
