"""What becomes of each line of a script: a table of vm.toml, nothing, or a script as before."""

import difflib
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Literal

from vfio_hooks import ENDING
from vfio_hooks.event import OPERATIONS
from vfio_hooks.migrate.meanings import meaning
from vfio_hooks.migrate.meanings.meaning import Kind, Meaning
from vfio_hooks.record import record, replace
from vfio_hooks.shell.actions import Action, Run
from vfio_hooks.shell.expansion import UNKNOWN

Sort = Kind | Literal["unread"]
"""The kinds of meaning, and "unread": the reader does not understand the script from there on."""

# They look or print, and change nothing of the host.
_IDLE = frozenset(
    """
    test [ [[ true false : set unset exit return break continue cd pushd popd shift read wait trap
    ulimit umask shopt alias date logger notify-send which type hash command lsmod lspci lsusb lsof
    lscpu grep egrep fgrep awk gawk sed cat cut head tail tr sort uniq wc ls dirname basename seq
    readlink realpath pgrep pidof ps pidwait nproc whoami id uname hostname env printenv exec
    expr bc getent stat file find mktemp jq tput clear sync let source . time function
    udevadm findmnt mountpoint who w users last uptime free dmesg journalctl numactl inotifywait
    dmidecode lsblk lsirq sensors print emulate setopt unsetopt disown systemd-cat
    """.split()
)
# What a script remembers from its start to its end, and writes for people.
_NOTES = r"(?:/tmp|/var/tmp|/run|/var/run|/var/log)/\S*"
_LOOKS = re.compile(
    r"^(?:systemctl\b.*\b(?:is-active|is-enabled|is-failed|status|show|list-\S+|cat|daemon-reload|"
    r"reset-failed)\b|virsh\b.*\b(?:list|dominfo|domstate|dumpxml|vcpuinfo|nodedev-list|"
    r"nodedev-dumpxml|domid)\b|virsh\b.*\b(?:vcpupin|emulatorpin) \S+$|kill -0\b|"
    r"modinfo\b|modprobe\b.*(?:-n\b|--dry-run)|"
    r"fuser\b(?!.* -\w*k)|loginctl\b.*(?:list|show)|cpupower\b.*-info|"
    r"ip (?:-\S+ )*(?:a|addr|link|route)(?: show\b.*)?$|killall -0\b|echo\b|"
    r"printf\b|nvidia-xconfig --query|nvidia-smi(?: -L| -q\b.*| --query\S*)*$|"
    rf"(?:rm|mkdir|touch|chmod|chown|mv|cp|ln)\b(?: -\S+| {_NOTES}| \d+| [\w.]+:[\w.]*)+$|"
    r"service \S+ status|rc-service \S+ status)"
)
_PREFIXES = frozenset(
    "sudo doas nohup exec setsid command builtin time env xargs systemd-run pkexec".split()
)
# Their options with a value, beside that for a user.
_TAKES_VALUE = {
    "xargs": ("-n", "-I", "-P", "-L", "-d", "-a", "-s"),
    "systemd-run": ("-p", "-u", "-M"),
}
_WITH_VALUE = {"timeout": 1, "nice": 0, "ionice": 0, "chrt": 0, "stdbuf": 0, "flock": 1}
_USER = ("runuser", "su")
UNDONE = "undone automatically when the VM ends"
_FOREVER = "it may wait forever; vfio-hooks waits with a time limit"
_NEEDED = {
    "service": ("unit",),
    "mdev": ("uuid",),
    "write": ("path", "value"),
    "usb": ("device",),
    "process": ("command",),
}
_ALIKE = 0.85
_HOST_FILES = ("/sys/", "/proc/", "/dev/", "/etc/")
_LOGS = ("/dev/kmsg", "/dev/stdout", "/dev/stderr", "/dev/tty", "/dev/console", "/proc/self/fd/2")


@record
class Verdict:
    """A line, what is to become of it and why; `table` is the facility's name, "" for none, and
    `options` are keys of it with their values. `user` is whom the command runs as."""

    file: str
    line: int
    command: str
    kind: Sort
    why: str
    table: str = ""
    options: tuple[tuple[str, str], ...] = ()
    user: str = ""

    @property
    def thing(self) -> str:
        """What the line is about, by which the line that undoes it is found: a unit, a value's
        name, or the power profile; "" for other lines, and where it is not known."""
        given = dict(self.options)
        if "power_profile" in given:
            return "power profile"
        name = given.get(
            {"service": "unit", "write": "path", "usb": "device"}.get(self.table, ""), ""
        )
        if UNKNOWN in name:
            return ""
        return name.removesuffix(".service").removeprefix("/proc/sys/").replace("/", ".")


def verdicts(run: Run, op: str) -> list[Verdict]:
    """What becomes of a script's lines, in their order; `op` is libvirt's operation that it is run
    at, "" where it is run at all of them."""
    found = [one for action in run.actions for one in _of_action(action, op)]
    found += list(_misspelt(run))
    for file, error in run.unread:
        why = f"{error.why}: nothing is read from here on"
        found.append(Verdict(file, error.line, "", "unread", why))
    return list(dict.fromkeys(found))


def _of_action(action: Action, op: str) -> Iterator[Verdict]:
    words, user = _bare(action.words)
    inner = _inner_script(words)
    if inner is not None:
        nested = Run(lambda path: None)
        nested.follow(action.file, inner)
        user = user or _switched_to(words)
        for one in nested.actions:
            placed = replace(one, line=action.line, loop=action.loop)
            yield from (replace(two, user=two.user or user) for two in _of_action(placed, op))
        return
    if _is_dispatch(words):
        why = "vfio-hooks runs the VM's own scripts, in the same order"
        yield Verdict(action.file, action.line, words[0], "needless", why)
        return
    if action.loop and words[:1] in ((":",), ("true",)):
        yield Verdict(action.file, action.line, words[0], "mistake", _FOREVER)
    for text in _texts(action, words):
        known = meaning(text)
        if known and not _LOOKS.match(text):
            yield _known(action, text, known, op, user)
        elif not known and _changes(text, words):
            why = "no table does this, so it stays a script"
            yield Verdict(action.file, action.line, text, "keep", why, user=user)


def _is_dispatch(words: Sequence[str]) -> bool:
    """Whether a script runs those of the VM's folder, with the words that it has from libvirt."""
    program = words[0] if words else ""
    return (program == UNKNOWN or "/qemu.d/" in program) and OPERATIONS.get(
        "".join(words[2:3])
    ) == "".join(words[3:4])


def _known(
    action: Action, text: str, known: tuple[Meaning, dict[str, str]], op: str, user: str
) -> Verdict:
    found, groups = known
    options = tuple(
        (name, value)
        for name, _, fixed in (key.partition("=") for key in found.keys)
        if (value := fixed or groups.get(name, ""))
    )
    if found.keys == ("memory",):
        options = ((groups["memory"], groups["value"]),)
    kind, why = found.kind, found.why
    if kind == "table" and op not in ENDING and _is_vague(found.table, options, text):
        why = "what it is about is known only when the script runs"
        return Verdict(action.file, action.line, text, "keep", why, user=user)
    if found.table and kind in ("table", "keep") and op in ENDING:
        kind, why = "needless", UNDONE
        if found.table == "governor" and UNKNOWN not in dict(options).get("governor", UNKNOWN):
            kind, why = "mistake", "a guess: each CPU gets back the governor that it had"
    if text.startswith("sleep") and action.loop:
        why = _FOREVER
    if found.table == "pci" and text.startswith("virsh"):
        why = "virsh in a hook can hang libvirt; with managed='yes' libvirt does this by itself"
    return Verdict(action.file, action.line, text, kind, why, found.table, options, user)


def _is_vague(table: str, options: Sequence[tuple[str, str]], text: str) -> bool:
    """Whether a table lacks a value without which it cannot be."""
    needed = _NEEDED.get(table, ())
    given = {name for name, value in options if UNKNOWN not in value}
    return not given.issuperset(needed) or (table == "shm" and UNKNOWN in text.split()[-1])


def _misspelt(run: Run) -> Iterator[Verdict]:
    """Variables that are never set, while one with nearly the same name is."""
    for file, line, name in run.unset:
        close = difflib.get_close_matches(name, run.names, n=1, cutoff=_ALIKE)
        if close and name not in run.names:
            why = f"${name} is never set, but ${close[0]} is"
            yield Verdict(file, line, f"${name}", "mistake", why)


def _bare(words: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """A command without sudo and its like, and the user whom these run it as."""
    left, user = list(words), ""
    while left:
        program = left[0].rpartition("/")[2]
        if program == "command" and left[1:2] in (["-v"], ["-V"]):
            return (), user
        if program in _USER and "-c" not in left:
            left, user = _options(left[1:], "")
        elif program in _WITH_VALUE and any(re.match(r"-\w*p$", one) for one in left[1:]):
            # It is about a process that runs.
            break
        elif program in _PREFIXES or program in _WITH_VALUE:
            left, given = _options(left[1:], program)
            user = user or given
            left = left[_WITH_VALUE.get(program, 0) :]
        else:
            break
    return tuple(left), user


def _options(words: list[str], program: str) -> tuple[list[str], str]:
    """What follows a prefix's options and variables, and the user among them."""
    user = ""
    while words and (words[0].startswith("-") or re.match(r"[A-Za-z_]\w*=", words[0])):
        option = words.pop(0)
        if option in _TAKES_VALUE.get(program, ()) and words:
            words.pop(0)
        elif option in ("-u", "-g", "--user") and words and program != "systemd-run":
            user = words.pop(0)
        elif (
            option in ("-n", "-c", "-k", "-s")
            and words
            and program in _WITH_VALUE.keys() - {"flock"}
        ):
            words.pop(0)
        elif option.startswith(("--user=", "--uid=")):
            user = option.partition("=")[2]
        elif option == "--":
            break
    if not program and words and not user:
        user = words.pop(0)
    return words, user


def _inner_script(words: Sequence[str]) -> str | None:
    """The script in sh -c SCRIPT, su USER -c SCRIPT and eval SCRIPT."""
    program = words[0].rpartition("/")[2] if words else ""
    if program in ("sh", "bash", "dash", *_USER) and "-c" in words[:-1]:
        return words[words.index("-c") + 1]
    return " ".join(words[1:]) if program == "eval" else None


def _switched_to(words: Sequence[str]) -> str:
    """The user of su USER -c SCRIPT."""
    if words[0].rpartition("/")[2] not in _USER:
        return ""
    script = words[words.index("-c") + 1]
    return next((one for one in words[1:] if one[:1] != "-" and one != script), "")


def _texts(action: Action, words: Sequence[str]) -> Iterator[str]:
    """The lines of text that a command is looked up as."""
    if not words:
        return
    program = words[0].rpartition("/")[2]
    if program == "tee":
        files = [word for word in words[1:] if not word.startswith("-")]
        yield from (f"write {action.input} > {file}" for file in (*files, *action.writes))
    elif action.writes and program in ("echo", "printf", "cat"):
        value = action.input or shlex.join(words[1:2]) if program == "cat" else _echoed(words)
        yield from (f"write {value} > {file}" for file in action.writes)
    elif program == "sysctl" and (given := [word for word in words if "=" in word]):
        yield from (f"sysctl {word}" for word in given)
    elif program == "systemctl" and (several := _units(words)):
        # One unit a line, as a [[service]] has it.
        place = words.index(several[0])
        yield from (" ".join((program, *words[1:place], unit)) for unit in several)
    else:
        yield " ".join((program, *words[1:]))


def _units(words: Sequence[str]) -> list[str]:
    """The units of `systemctl stop a b`; nothing for another call."""
    plain = [word for word in words[1:] if not word.startswith("-")]
    return plain[1:] if plain[:1] in (["stop"], ["start"], ["restart"]) else []


def _echoed(words: Sequence[str]) -> str:
    rest = [word for word in words[1:] if word not in ("-n", "-e", "-en", "-ne")]
    return " ".join(rest).replace("\\n", " ").strip()


def _changes(text: str, words: Sequence[str]) -> bool:
    """Whether a command that no pattern knows may change the host or start something."""
    if text.startswith("write "):
        target = text.partition("> ")[2]
        return target.startswith(_HOST_FILES) and target not in _LOGS
    program = words[0].rpartition("/")[2]
    edits = program in ("sed", "perl") and any(word.startswith("-i") for word in words[1:])
    return edits or (program not in _IDLE and not _LOOKS.match(text))
