"""What becomes of one line of a script."""

from typing import Literal, TypeAlias

from vfio_hooks.migrate.meanings.meaning import Kind
from vfio_hooks.record import record
from vfio_hooks.shell.expansion import UNKNOWN

Sort: TypeAlias = Kind | Literal["unread"]
"""The kinds of meaning, and "unread": the reader does not understand the script from there on."""
Options: TypeAlias = tuple[tuple[str, str], ...]

UNDONE = "undone automatically when the VM ends"
VALUES = ("governor", "memory", "gpu")
"""Tables of values, each of which has to be known."""
POWER_PROFILE = "power profile"
GUESS = "a guess: each CPU gets back the governor that it had"


@record
class Verdict:
    """A line, what is to become of it and why; `table` is the facility's name, "" for none, and
    `options` are keys of it with their values. `user` is the user that the command runs as. If it
    stands in another file, `called_at` is the script's own line that leads there. `loop` says that
    it is in a `while`. If the line stays a script because its values are only known when it runs,
    `kept_from` is the table that could do it otherwise."""

    file: str
    line: int
    command: str
    kind: Sort
    why: str
    table: str = ""
    options: Options = ()
    user: str = ""
    called_at: int = 0
    loop: bool = False
    kept_from: str = ""

    @property
    def things(self) -> set[tuple[str, str]]:
        """What the line is about, to find the line that undoes it, each with its table: a unit, a
        file, the names of values, or the power profile; nothing for other lines, and if it is not
        known."""
        given, table = dict(self.options), self.table or self.kept_from
        if "power_profile" in given:
            return {(table, POWER_PROFILE)}
        if table in VALUES:
            return {(table, name) for name in given}
        name = given.get({"service": "unit", "write": "path", "usb": "device"}.get(table, ""), "")
        if not name or UNKNOWN in name:
            return set()
        return {(table, name.removesuffix(".service").removeprefix("/proc/sys/").replace("/", "."))}
