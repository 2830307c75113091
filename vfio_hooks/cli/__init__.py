"""The vfio-hooks command: what reads options and prints for people.

It exits with 0 if all went well, with 1 after a failure, which is reported in one line on standard
error, and with 2 if the command line was wrong.
"""

import argparse
import gc
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from vfio_hooks import __version__
from vfio_hooks.cli.terminal import complain
from vfio_hooks.errors import HookError, reason

_VERBS = (
    "init",
    "migrate",
    "plan",
    "check",
    "topology",
    "iommu",
    "status",
    "undo",
    "validate",
    "verify",
    "log",
    "why",
    "alive",
    "desktop",
    "rehearse",
    "snapshot",
    "boot",
    "install",
    "hook",
    "completion",
    "manual",
)
_DEBUG = "VFIO_HOOKS_DEBUG"
_EPILOG = """\
examples:
  vfio-hooks check win11               what is wrong on this host and in win11's XML?
  vfio-hooks plan win11 --use pci      what would an empty [pci] alone do at its start?
  vfio-hooks init win11                write a vm.toml that suits it
  vfio-hooks migrate win11             what do its scripts do, and which tables do the same?
  vfio-hooks plan win11                what would be done when win11 starts?
  vfio-hooks rehearse win11            is the host the same as before, after a start and an end?
  vfio-hooks status                    what is changed on this host now, and for which VM?
  vfio-hooks log win11                 what happened at its last start and end?
  vfio-hooks why win11                 what do the logs say about its last start?
  vfio-hooks undo win11                undo what win11 left changed

/etc/libvirt/hooks/qemu.d/VM/vm.toml says what to do for VM; man vfio-hooks.toml lists its keys.
Every verb has its own help, for example: vfio-hooks plan --help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the arguments of this process, or with `argv`; its exit code."""
    # A command keeps most of its objects until it ends, so garbage is collected rarely.
    gc.set_threshold(100_000)
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # An arrow must not be a failure where the locale has none.
            stream.reconfigure(errors="replace")
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # `vfio-hooks plan | head`: nobody reads on.
        _drop_output()
        return 1
    except OSError as error:
        # A full disk, or a terminal that is gone.
        _drop_output()
        complain(f"standard output: {reason(error)}")
        return 1


def _open_closed_streams() -> None:
    """Open the null device where a standard stream is closed (`vfio-hooks plan >&-`). Otherwise
    the next file that is opened would get its number, and with it what is printed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def _drop_output() -> None:
    """Send what is not printed yet nowhere: Python flushes once more at exit, and would fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    top = parser(words[0] if words else "")
    arguments, unknown = top.parse_known_args(words)
    if unknown:
        # With the verb's usage: argparse by itself shows that of the whole command.
        getattr(arguments, "parser", top).error(f"unrecognized arguments: {' '.join(unknown)}")
    if "run" not in arguments:
        top.print_help(sys.stderr)
        return 2
    try:
        code: int = arguments.run(arguments)
        return code
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        return 130
    except HookError as error:
        complain(str(error))
    except OSError as error:
        complain(f"{error.filename}: {reason(error)}" if error.filename else reason(error))
        _trace()
    except Exception as error:
        complain(f"{type(error).__name__}: {error} (a defect; set {_DEBUG}=1 to see where)")
        _trace()
    return 1


def _trace() -> None:
    """Print a traceback of the exception that is being handled, if the user asks for it."""
    if os.environ.get(_DEBUG) == "1":
        traceback.print_exc()


def parser(verb: str = "") -> argparse.ArgumentParser:
    """The parser of the whole command line, with a sub-parser for each verb. If `verb` is one, only
    that sub-parser is made, because each imports what its verb needs."""
    top = argparse.ArgumentParser(
        prog="vfio-hooks",
        description="libvirt's hook prepares this host for VMs with passed-through devices, and\n"
        "undoes exactly that when they end. This command shows and checks what it does.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = top.add_subparsers(title="verbs", metavar="VERB")
    for name in (verb,) if verb in _VERBS else _VERBS:
        import_module(f"vfio_hooks.cli.{name}").register(verbs)
    return top
