"""The one kind of failure that a user meets, and help for a mistyped name."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class HookError(Exception):
    """A failure in one line: what failed, on which object, and why. `hint` says what to do."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem, hint)
        self.problem = _one_line(problem)
        self.hint = _one_line(hint)

    def __str__(self) -> str:
        end = "" if self.problem.endswith("?") else ";"
        return f"{self.problem}{end} {self.hint}" if self.hint else self.problem


class Several(HookError):
    """Failures of several tables at once, as one line."""

    def __init__(self, errors: Sequence[HookError]) -> None:
        super().__init__("; also: ".join(map(str, errors)))
        self.errors = tuple(errors)


class CommandFailed(HookError):
    """A command that failed: `why`, in words. `code` is its exit code, the negative number of the
    signal that ended it, or None if it took too long. `said` is the last line that it printed to
    standard error. `about` is what messages call it, usually its command line `argv`."""

    def __init__(
        self, about: str, why: str, argv: Sequence[str], code: int | None, said: str = ""
    ) -> None:
        super().__init__(f"{about}: {why}")
        self.why = _one_line(why)
        self.argv = tuple(argv)
        self.code = code
        self.said = said


class Gone(HookError):
    """The object that a value belongs to does not exist (any more): a VF, an IRQ, a CPU."""


class Asleep(HookError):
    """A CPU that a value belongs to is offline, so the value cannot be read, or not fully set."""


class Late(HookError):
    """The kernel has not done something in time, and may still do it later."""


class Immovable(HookError):
    """The kernel never lets this value be changed (a managed interrupt). A plan goes on then."""


class Unread(HookError):
    """A part of a domain's XML that is asked for, and that this program cannot read."""


class Strict(HookError):
    """A failure at `started` that ends the guest, as the VM's owner wants it (strict_started)."""


class Interrupted(HookError):
    """SIGTERM, SIGINT or SIGHUP came; what the event did so far is undone before it ends."""


def reason(error: OSError) -> str:
    """The kernel's own words for an error, without the path that Python adds."""
    return error.strerror or str(error)


def told(error: BaseException) -> str:
    """Any failure in one line; a defect of the program with the exception's type."""
    return (
        str(error)
        if isinstance(error, HookError)
        else _one_line(f"{type(error).__name__}: {error}")
    )


def unreadable(path: str, error: OSError) -> HookError:
    """Why a file or folder cannot be read. The hint is sudo if only root's rights are missing."""
    denied = isinstance(error, PermissionError) and os.geteuid()
    problem = f"{path}: cannot be read: {reason(error)}"
    return HookError(problem, "try again with sudo" if denied else "")


def of_table(error: HookError, name: str) -> HookError:
    """The failure with its table's name, and with a hint if it has none."""
    hint = f"correct [{name}], or set required = false in it to start the VM without it"
    return HookError(f"{name}: {error.problem}", error.hint or hint)


def raise_all(wrong: Sequence[HookError]) -> None:
    """Raise what went wrong with one or several tables as one HookError, if anything did."""
    if wrong:
        raise Several(wrong) if len(wrong) > 1 else wrong[0]


def meant(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that was probably meant by `name`; None if none is close."""
    from difflib import get_close_matches

    lower = {known.lower(): known for known in sorted(allowed, reverse=True)}
    close = get_close_matches(name.lower(), lower, n=1)
    return lower[close[0]] if close else None


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """The question "did you mean pci?", or "". For failures that list the allowed names already."""
    close = meant(name, allowed)
    return f"did you mean {close}?" if close else ""


def nearest(name: str, allowed: Iterable[str], all_in: str = "") -> str:
    """What to try instead of `name`: "did you mean pci? allowed: cpus, pci". If there are too many
    names for one line, `all_in` stands in their place: "man vfio-hooks-check lists them"."""
    names = sorted(allowed)
    guess = did_you_mean(name, names)
    if guess and len(names) == 1:
        return guess
    return f"{guess} {all_in or 'allowed: ' + (', '.join(names) or 'none')}".strip()


def _one_line(text: str) -> str:
    return " ".join(text.split())
