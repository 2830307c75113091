"""A helper program that runs beside the VM, as a user: Barrier, a Looking Glass client, a script.

There may be several tables, one for each program:

    [[process]]
    command = ["barrier", "--config", "/home/me/barrier.conf"]
    user = "me"

Each program is a systemd unit of its own, vfio-hooks-VM-NAME.service, and finds the display, sound
and message bus of the user's graphical session. Its output goes to the journal of its unit. It is
stopped when the VM stops, even if QEMU or libvirt crashes. In its environment, VFIO_HOOKS_VM is the
VM's name.

If the user cannot execute the command, there is an error before anything is changed. A program that
fails later does not harm the VM. It is logged, and `vfio-hooks status` shows that the program is
not running.
"""

import os
import re
import shlex
from collections.abc import Iterator
from typing import Literal

from vfio_hooks import services
from vfio_hooks.commands import SEARCH
from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.host.accounts import Account, account, obstacle
from vfio_hooks.host.sessions import Session, choose, environment, graphical
from vfio_hooks.host.unit_syntax import quote, unit_name
from vfio_hooks.knobs.transient import Transient
from vfio_hooks.record import field, record
from vfio_hooks.sharing import Override
from vfio_hooks.steps import Step

MULTIPLE = True
UNIQUE = "title"
_RESTART_AFTER = 3
"""Seconds; often enough for a person, and no burden where a program fails again and again."""


@record
class Options:
    command: str | tuple[str, ...]
    """The program and its arguments. A string is split at blanks as a shell would split it, but
    nothing in it is expanded."""
    user: str | None = None
    """The user that it runs as. If it is not set, it is the user of the graphical session."""
    when: Literal["prepare", "started"] = "started"
    """When it is started: "started" is when the VM runs, "prepare" is before anything else is done
    for the VM."""
    restart: Literal["no", "on-failure", "always"] = "no"
    """Whether it is started again, three seconds after it has ended: "no", "on-failure" or
    "always"."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables that are set in addition to those of the session."""
    folder: str | None = None
    """The folder that it is started in. If it is not set, it is the user's home."""
    name: str | None = None
    """A name that tells it from the VM's other programs. If it is not set, it is the name of the
    program."""
    timeout: float = 10.0
    """How many seconds it may take to end before it is killed."""

    def __post_init__(self) -> None:
        if not self.words or not self.words[0]:
            raise ValueError("command is empty")
        for name in self.environment:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"environment: {name!r} cannot be the name of a variable")
        if self.name == "":
            raise ValueError("name must not be empty")
        if self.folder is not None and not self.folder.startswith("/"):
            raise ValueError("folder must start with /")
        if self.timeout <= 0:
            raise ValueError("timeout must be more than 0 seconds")

    @property
    def title(self) -> str:
        """The name that tells the program from the VM's other programs."""
        return self.name or os.path.basename(self.words[0])

    @property
    def words(self) -> tuple[str, ...]:
        """The command as an argument list. Raises ValueError for a quote that is not closed."""
        if not isinstance(self.command, str):
            return self.command
        try:
            return tuple(shlex.split(self.command))
        except ValueError:
            raise ValueError("command: a quote is not closed, or a \\ ends it") from None


def plan(event: Event, domain: Domain, options: Options, host: Host) -> Iterator[Step]:
    if event.op not in ("prepare", options.when):
        return
    session, user = _whose(host, options)
    program = _program(host, options, user)
    if event.op != options.when:
        return
    # One that cannot be started is no reason to undo what else was done at `started`.
    required = options.when == "prepare"
    about = f"VM {domain.name}, for the programs that run beside it"
    life = Transient(
        f"vfio-hooks-life-{domain.uuid}.service",
        services.lifetime(domain.name),
        (f"Description={about}",),
        title=about,
    )
    yield Step("process", life, Override(life.value), "stopped", required)
    unit = _unit(domain, options.title)
    variables = environment(host, session) if session else _without_session(host, user)
    helper = Transient(
        unit,
        (program, *options.words[1:]),
        (
            f"Description={options.title}, beside VM {domain.name}",
            f"User={user.name}",
            f"WorkingDirectory={options.folder or user.home}",
            f"Restart={options.restart}",
            f"RestartSec={_RESTART_AFTER}",
            "StartLimitIntervalSec=0",
            f"BindsTo={life.unit}",
            f"After={life.unit}",
            # As root (+), because `vfio-hooks log` only shows lines that root has logged.
            f"ExecStopPost=+{quote(services.argv(services.__name__, 'ended', domain.name, unit))}",
        ),
        tuple(
            f"{name}={value}"
            for name, value in {
                **variables,
                "VFIO_HOOKS_VM": domain.name,
                **options.environment,
            }.items()
        ),
        options.timeout,
    )
    yield Step("process", helper, Override(helper.value), "stopped", required)


def _whose(host: Host, options: Options) -> tuple[Session | None, Account]:
    """The user that the program runs as, and the session that it belongs to, if there is one."""
    if options.user is None:
        session = choose(host)
        return session, account(host, session.user)
    user = account(host, options.user)
    own = [one for one in graphical(host) if one.uid == user.uid]
    own.sort(key=lambda one: one.state != "active")
    return (own[0] if own else None), user


def _without_session(host: Host, user: Account) -> dict[str, str]:
    runtime = f"/run/user/{user.uid}"
    return {"XDG_RUNTIME_DIR": runtime} if host.exists(runtime) else {}


def _program(host: Host, options: Options, user: Account) -> str:
    """The path of the program. Raises HookError for one that the user cannot execute, and for a
    folder that is not there."""
    wanted = options.words[0]
    if "/" in wanted and not wanted.startswith("/"):
        raise HookError(
            f"{wanted}: not an absolute path", "write the path from /, or only the name"
        )
    places = [wanted]
    if "/" not in wanted:
        home = (f"{user.home}/.local/bin",)
        places = [f"{folder}/{wanted}" for folder in (*SEARCH.split(":"), *home)]
    reasons = {place: obstacle(host, user, place) for place in places}
    for place, reason in reasons.items():
        if not reason:
            _check_folder(host, options)
            return place
    there = [f"{p}: {why}" for p, why in reasons.items() if not why.startswith("there is no")]
    if there or "/" in wanted:
        told = there[0] if there else f"{wanted}: there is no such file"
        raise HookError(told, "check command and user in [[process]]")
    raise HookError(f"{wanted}: no such program", f"install it; it was looked for in {SEARCH}")


def _check_folder(host: Host, options: Options) -> None:
    if options.folder is not None and not host.exists(options.folder):
        raise HookError(f"{options.folder}: no such folder", "check folder in [[process]]")


def _unit(domain: Domain, name: str) -> str:
    try:
        return unit_name(domain.name, name)
    except ValueError:
        return unit_name(domain.uuid, name)
