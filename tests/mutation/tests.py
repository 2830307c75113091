"""Which tests are a module's own, the quickest first. They run the module in pytest's process."""

VALUES = ("value", "third_value", "immovable", "tell", "folding")
FILES = ("journal", "ledger")
COMMANDS = ("irqs", "cli_undo", "cli_plan", "cli_status")
QUICK = {
    "host/cpulist.py": ("cpulist",),
    "sharing.py": ("sharing", "ledger", "value"),
    "engine/disk.py": FILES,
    "engine/journal.py": FILES,
    "engine/sealed.py": FILES,
    "engine/state.py": (*FILES, "cli_undo", "cli_status"),
    "engine": (*VALUES, *FILES, *COMMANDS),
}
"""The tests for each module, or for all modules of a folder."""
SLOW = {
    "sharing.py": ("interleavings",),
    "engine": ("crashes", "interleavings"),
}
"""Those for survivors alone: they take 15 s each."""


def own(module: str, with_slow: bool) -> list[str]:
    """The files with the tests of a module, such as "engine/disk.py"."""
    folder = module.partition("/")[0]
    names = QUICK.get(module) or QUICK[folder]
    if with_slow:
        names += SLOW.get(module) or SLOW.get(folder, ())
    return [f"tests/test_{name}.py" for name in names]
