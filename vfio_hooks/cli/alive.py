"""`vfio-hooks alive`: tell the watch of [gpu] alive that the guest shows something."""

import argparse
import signal

from vfio_hooks.cli.common import Verbs, add_verb, need_root
from vfio_hooks.cli.metavars import VM
from vfio_hooks.cli.terminal import clean, say
from vfio_hooks.commands import run as run_command
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.wait import until

_EPILOG = """\
With `alive` in [gpu] of vm.toml, the hook watches whether the guest's driver takes the card. If
you can see the guest's picture but the watch cannot, tell it with this verb.

examples:
  sudo vfio-hooks alive win11
"""
_SECONDS = 10
"""How long a service that has only just started is waited for, in seconds."""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "alive",
        run,
        line="tell the watch of [gpu] that the guest is alive",
        description="Tell the watch of [gpu] in vm.toml that the guest is alive.",
        epilog=_EPILOG,
    )
    parser.add_argument("vm", metavar=VM, help="name of a running VM")


def run(arguments: argparse.Namespace) -> int:
    need_root("alive")
    found = StateFolder().find(arguments.vm)
    unit = f"vfio-hooks-alive-{found[0]}.service" if found else ""
    try:
        if not found:
            raise HookError("")
        shown = run_command(["systemctl", "show", "--property=MainPID", "--value", unit], 20)
        until(lambda: hears(shown.strip()), _SECONDS)
        run_command(["systemctl", "kill", "--kill-whom=main", "--signal=SIGUSR1", unit], 20)
    except HookError:
        raise HookError(
            f"{arguments.vm} is not watched", "set alive in [gpu] of its vm.toml to have it watched"
        ) from None
    say(f"{clean(arguments.vm)} is alive")
    return 0


def hears(pid: str) -> bool:
    """Whether a process handles SIGUSR1, or is gone. The signal would end one that does not yet."""
    status = Host().maybe(f"/proc/{pid}/status")
    if status is None:
        return True
    caught = status.partition("SigCgt:")[2].split()
    return bool(int(caught[0], 16) >> (signal.SIGUSR1 - 1) & 1)
