"""Settings that make a desktop leave a VM's graphics card alone, as files to write.

A compositor reads such a setting once, when it starts. If the setting is a list of the cards to
use, our own links name them: card numbers change, and the kernel's own links contain colons, which
separate the entries of such a list.
"""

import os

from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError, reason
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.host.accounts import account, user_names
from vfio_hooks.host.desktops import (
    COMPOSITORS,
    MESA_ONLY,
    RULES,
    VARIABLES,
    XORG,
    setting_text,
)
from vfio_hooks.host.in_use import holders
from vfio_hooks.host.pci import DEVICES, Function, kept_displays, passed_displays
from vfio_hooks.host.process import environ
from vfio_hooks.host.sessions import Session, as_user, programs
from vfio_hooks.record import record

_MESA = "/usr/share/glvnd/egl_vendor.d/50_mesa.json"
_MARK = "# Written by vfio-hooks desktop, which takes it back with --remove.\n"
_WRITE = 'umask 022; mkdir -p "${1%/*}" && printf %s "$2" >"$1"'


@record
class Setting:
    """A file and its text. It belongs to `user` if it is in that user's home, else to root."""

    path: str
    text: str
    user: str = ""


def compositor(host: Host, session: Session) -> str:
    """The name of the process that draws a session. Raises HookError if none is known."""
    return "Xorg" if session.type == "x11" else _process(host, session)[1]


def _process(host: Host, session: Session) -> tuple[str, str]:
    """The pid and name of a session's compositor. Raises HookError if none is known."""
    for pid in programs(host, session):
        name = host.maybe(f"/proc/{pid}/comm")
        if name in COMPOSITORS:
            return pid, name
    raise HookError(
        f"{session}: its compositor is not one that vfio-hooks knows",
        f"it knows {', '.join(COMPOSITORS)}",
    )


def settings(host: Host, domain: Domain, session: Session) -> list[Setting]:
    """The files that make a session's desktop never open the domain's graphics cards. Raises
    HookError if they can only be written by hand."""
    name = compositor(host, session)
    passed, kept = passed_displays(host, domain), kept_displays(host, domain)
    if not kept:
        raise HookError(
            f"the host has no graphics card besides those of {domain.name}",
            "use [session] in vm.toml, which stops the desktop while the VM runs",
        )
    if name in ("gnome-shell", "mutter"):
        found = [Setting(RULES, _MARK + "".join(map(_ignored, passed)))]
    elif name == "Xorg":
        found = [Setting(XORG, _MARK + _without_others())]
    elif name == "niri":
        raise HookError(
            "niri has a configuration file of its own, which is not written here",
            'in ~/.config/niri/config.kdl: debug { ignore-drm-device "/dev/dri/by-path/'
            f'pci-{passed[0].address}-card" }} (from its manual, not tried)',
        )
    else:
        found = [Setting(RULES, _MARK + "".join(map(_linked, kept)))]
    if lines := _variables(name, passed, kept):
        path = f"{account(host, session.user).home}/{VARIABLES}"
        found.append(Setting(path, _MARK + "".join(lines), session.user))
    return found


def is_written(host: Host, setting: Setting) -> bool:
    """Whether the file has that text."""
    return setting_text(host, setting.path) == setting.text.strip()


def is_in_force(host: Host, session: Session, setting: Setting, cards: list[str]) -> bool:
    """Whether the running desktop uses a setting for these graphics cards: its compositor was
    started with the setting's variables or, if the setting has none, has none of the cards open."""
    if not setting.user or session.type == "x11":
        there = [card for card in cards if host.names(f"{DEVICES}/{card}/drm")]
        held = (holder for card in there for holder in holders(host, card))
        return bool(there) and not any(holder.name in COMPOSITORS for holder in held)
    pid, _ = _process(host, session)
    known = environ(host, pid)
    lines = (line.partition("=") for line in setting.text.splitlines() if line[:1] != "#")
    return all(known.get(name) == value for name, _, value in lines)


def write(host: WritableHost, setting: Setting) -> None:
    """Write the file as the user it belongs to. Raises HookError if it exists and is not ours."""
    if os.path.lexists(host.path(setting.path)) and not _is_ours(host, setting):
        raise HookError(f"{setting.path} exists, and vfio-hooks did not write it", "move it away")
    argv = ["sh", "-c", _WRITE, "sh", host.path(setting.path), setting.text]
    host.run(as_user(setting.user, {}, argv) if setting.user else argv)


def written(host: Host, user: str | None = None) -> list[Setting]:
    """The settings of ours that there are, for whichever desktop: root's own, and that of `user`
    or of the only user who has one. A session is not needed, because a wrong setting may be what
    keeps the desktop from starting. Rules with the links that another user's setting names are left
    out. Raises HookError if several users have one."""
    names = [*user_names(host), *([user] if user else [])]
    homes = {account(host, name).home: name for name in names}
    every = [Setting(f"{home}/{VARIABLES}", "", name) for home, name in homes.items()]
    every = [one for one in every if _is_ours(host, one)]
    own = [one for one in every if user in (None, one.user)]
    if len(own) > 1:
        whose = ", ".join(one.user for one in own)
        raise HookError(f"several users have such a setting: {whose}", "choose one with --user")
    is_needed = every != own and "SYMLINK" in (setting_text(host, RULES) or "")
    roots = [Setting(path, "") for path in ((XORG,) if is_needed else (RULES, XORG))]
    return [one for one in roots if _is_ours(host, one)] + own


def _is_ours(host: Host, setting: Setting) -> bool:
    return (setting_text(host, setting.path) or "").startswith(_MARK.strip())


def remove(host: WritableHost, setting: Setting) -> bool:
    """Remove the file if it is one of ours, and say whether it was. Raises HookError."""
    if not _is_ours(host, setting):
        return False
    argv = ["rm", "--", host.path(setting.path)]
    if setting.user:
        host.run(as_user(setting.user, {}, argv))
        return True
    try:
        os.unlink(host.path(setting.path))
    except OSError as error:
        raise HookError(f"{setting.path}: cannot be removed: {reason(error)}") from None
    return True


def _variables(name: str, passed: list[Function], kept: list[Function]) -> list[str]:
    lines = []
    if variable := COMPOSITORS[name].variable:
        lines.append(f"{variable}={':'.join(map(_link, kept))}\n")
    if all(card.driver != "nvidia" for card in kept) and any(
        card.ids.startswith("10de:") for card in passed
    ):
        lines.append(f"{MESA_ONLY}={_MESA}\n")
    return lines


def _link(card: Function) -> str:
    return f"/dev/dri/vfio-hooks-{card.address.replace(':', '-').replace('.', '-')}"


def _linked(card: Function) -> str:
    link = _link(card).removeprefix("/dev/")
    return f'SUBSYSTEM=="drm", KERNEL=="card[0-9]*", KERNELS=="{card.address}", SYMLINK+="{link}"\n'


def _ignored(card: Function) -> str:
    return f'SUBSYSTEM=="drm", KERNELS=="{card.address}", TAG+="mutter-device-ignore"\n'


def _without_others() -> str:
    return 'Section "ServerFlags"\n  Option "AutoAddGPU" "false"\nEndSection\n'
