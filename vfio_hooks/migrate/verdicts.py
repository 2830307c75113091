"""What becomes of each line of a script: a table of vm.toml, nothing, or a script as before."""

import difflib
import re
from collections.abc import Iterator, Sequence

from vfio_hooks import ENDING
from vfio_hooks.event import OPERATIONS
from vfio_hooks.migrate.meanings import meaning
from vfio_hooks.migrate.meanings.meaning import Meaning
from vfio_hooks.migrate.undecided import decided
from vfio_hooks.migrate.verdict import GUESS, UNDONE, Verdict
from vfio_hooks.record import replace
from vfio_hooks.shell.expansion import UNKNOWN
from vfio_hooks.shell.prefixes import bare
from vfio_hooks.shell.printed import echoed
from vfio_hooks.shell.run import Action, Run

# These look or print, and change nothing on the host.
_IDLE = frozenset(
    """
    test [ [[ true false : set unset exit return break continue cd pushd popd shift read wait trap
    ulimit umask shopt alias date logger notify-send which type hash command lsmod lspci lsusb lsof
    lscpu grep egrep fgrep awk gawk sed cat cut head tail tr sort uniq wc ls dirname basename seq
    readlink realpath pgrep pidof ps pidwait nproc whoami id uname hostname env printenv exec
    expr bc getent stat file find mktemp jq tput clear sync let source . time function
    udevadm findmnt mountpoint who w users last uptime free dmesg journalctl numactl inotifywait
    dmidecode lsblk lsirq sensors print emulate setopt unsetopt disown systemd-cat df du tac comm
    nl rev paste column xmllint zenity kdialog yad dunstify ss netstat ping rmdir mapfile readarray
    compgen on_ac_power acpi upower setterm
    """.split()
)
_ACTIONS = frozenset("-exec -execdir -ok -okdir -delete".split())
"""What `find` may do with what it finds."""
# Files in which a script keeps notes for its end, or logs for people.
_NOTES = r"(?:/tmp|/var/tmp|/run|/var/run|/var/log)/\S*"
_LOOKS = re.compile(
    r"^(?:systemctl\b.*\b(?:is-active|is-enabled|is-failed|status|show|list-\S+|cat|daemon-reload|"
    r"reset-failed)\b|virsh\b.*\b(?:list|dominfo|domstate|dumpxml|vcpuinfo|nodedev-list|"
    r"nodedev-dumpxml|domid)\b|virsh\b.*\b(?:vcpupin|emulatorpin) \S+$|kill -0\b|"
    r"modinfo\b|sysctl\b(?!.*=)(?!.* (?:-\w*[pf]\w*|--load|--system)\b)|"
    r"modprobe\b.*(?:-n\b|--dry-run)|"
    r"fuser\b(?!.* -\w*k)|loginctl\b.*(?:list|show)|cpupower\b.*-info|"
    r"ip (?:-\S+ )*(?:a|addr|link|route)(?: show\b.*)?$|killall -0\b|echo\b|"
    r"printf\b|nvidia-xconfig --query|nvidia-smi(?: -L| -q\b.*| --query\S*)*$|"
    rf"(?:rm|mkdir|touch|chmod|chown|mv|cp|ln)\b(?: -\S+| {_NOTES}| \d+| [\w.]+:[\w.]*)+$|"
    r"(?:service|rc-service) \S+ status|(?:sv|dinitctl) status\b|(?:modprobe|rmmod)$|nc\b.* -\w*z|"
    r"(?:docker|podman)\b.*\b(?:inspect|ps|logs)\b|"
    # A function of another file that writes for people.
    r"(?:log|msg|info|warn|error|err|debug|die|fatal)(?:_\w+)?(?: |$))"
)
_FOREVER = "it may wait forever; vfio-hooks waits with a time limit"
_UNIT = re.compile(r"^systemctl (?:-\S+ )*(?:stop|start|restart) \S*\?\S*$")
_NO_TABLE = "no table does this, so it stays a script"
_UNKNOWN_UNIT = "which unit it is, is only known when the script runs; [[service]] takes its name"
_ONLY_SURE = ("modules", "restart")
_ALIKE = 0.85
_HOST_FILES = ("/sys/", "/proc/", "/dev/", "/etc/")
_LOGS = ("/dev/kmsg", "/dev/stdout", "/dev/stderr", "/dev/tty", "/dev/console", "/proc/self/fd/2")


def verdicts(run: Run, op: str) -> list[Verdict]:
    """What should become of a script's lines, in their order. `op` is the libvirt operation at
    which it is run, "" for all of them."""
    actions = _with_restarts(run.actions)
    every = [(action.path, one) for action in actions for one in _of_action(action, op)]
    found = [*decided(every), *_misspelt(run)]
    for file, error in run.unread:
        why = f"{error.why}: nothing is read from here on"
        found.append(Verdict(file, error.line, "", "unread", why))
    return list(dict.fromkeys(found))


def _with_restarts(actions: Sequence[Action]) -> list[Action]:
    """The actions. What is started in the branch that stops it is as sure as that it is stopped."""
    stops = {action.path for action in actions if "stop" in action.words and action.path}
    return [
        replace(action, sure=action.sure or ("start" in action.words and action.path in stops))
        for action in actions
    ]


def _of_action(action: Action, op: str) -> Iterator[Verdict]:
    words, user = bare(action.words)
    for one in _about(action, words, op):
        yield replace(one, user=user or action.user, called_at=action.called_at, loop=action.loop)


def _about(action: Action, words: Sequence[str], op: str) -> Iterator[Verdict]:
    if _is_dispatch(words):
        why = "vfio-hooks runs the VM's own scripts, in the same order"
        yield Verdict(action.file, action.line, words[0], "needless", why)
        return
    if action.loop and words[:1] in ((":",), ("true",)):
        yield Verdict(action.file, action.line, words[0], "mistake", _FOREVER)
    for text in _texts(action, words):
        known = meaning(text)
        if known and not _LOOKS.match(text):
            yield _known(action, text, known, op)
        elif not known and not action.inside and _changes(text, words):
            why = _UNKNOWN_UNIT if _UNIT.search(text) else _NO_TABLE
            yield Verdict(action.file, action.line, text, "keep", why)


def _is_dispatch(words: Sequence[str]) -> bool:
    """Whether a command runs the scripts in the VM's folder, with the arguments from libvirt."""
    program = words[0] if words else ""
    return (program == UNKNOWN or "/qemu.d/" in program) and OPERATIONS.get(
        "".join(words[2:3])
    ) == "".join(words[3:4])


def _known(action: Action, text: str, known: tuple[Meaning, dict[str, str]], op: str) -> Verdict:
    found, groups = known
    options = tuple(
        (name, value)
        for name, _, fixed in (key.partition("=") for key in found.keys)
        if (value := fixed or groups.get(name, ""))
    )
    if found.keys == ("memory",):
        options = ((groups["memory"], groups["value"]),)
    if found.keys == ("disabled_from",):
        # cpupower takes away the states of just this time as well.
        options = (("max_exit_latency", str(int(groups["disabled_from"]) - 1)),)
    if not action.sure:
        # The table would do it on every host, and refuse the start where it cannot.
        options = tuple(one for one in options if one[0] not in _ONLY_SURE)
    kind, why = found.kind, found.why
    if found.table and kind in ("table", "keep") and op in ENDING:
        kind, why = "needless", UNDONE
        if found.table == "governor" and UNKNOWN not in dict(options).get("governor", UNKNOWN):
            kind, why = "mistake", GUESS
    if text.startswith("sleep") and action.loop:
        why = _FOREVER
    if found.table == "pci" and text.startswith("virsh"):
        why = "virsh in a hook can hang libvirt; with managed='yes' libvirt does this by itself"
    return Verdict(action.file, action.line, text, kind, why, found.table, options)


def _misspelt(run: Run) -> Iterator[Verdict]:
    """Verdicts on variables that are never set although one with nearly the same name is."""
    for file, line, name in run.unset:
        close = difflib.get_close_matches(name, run.names, n=1, cutoff=_ALIKE)
        if close and name not in run.names:
            why = f"${name} is never set, but ${close[0]} is"
            yield Verdict(file, line, f"${name}", "mistake", why)


def _texts(action: Action, words: Sequence[str]) -> Iterator[str]:
    """The lines of text by which a command is looked up."""
    if not words:
        return
    program = words[0].rpartition("/")[2]
    if program == "tee":
        files = [word for word in words[1:] if not word.startswith("-")]
        yield from (f"write {action.input} > {file}" for file in (*files, *action.writes))
    elif action.writes and program in ("echo", "printf", "cat"):
        printed = echoed(words).replace("\n", " ").strip()
        value = (action.input or UNKNOWN) if program == "cat" else printed
        yield from (f"write {value} > {file}" for file in action.writes)
    elif program == "sysctl" and (given := [word for word in words if "=" in word]):
        yield from (f"sysctl {word}" for word in given)
    elif program == "systemctl" and (several := _units(words)):
        # One unit in each line, as in [[service]].
        place = words.index(several[0])
        verb = [{"enable": "start", "disable": "stop"}.get(word, word) for word in words[1:place]]
        yield from (" ".join((program, *verb, unit)) for unit in several)
    elif "xargs" in action.words and action.input.startswith(UNKNOWN):
        yield " ".join((program, *words[1:], action.input))
    else:
        yield " ".join((program, *words[1:]))


def _units(words: Sequence[str]) -> list[str]:
    """The units of `systemctl stop a b` and `systemctl disable --now a`; nothing for another
    call."""
    plain = [word for word in words[1:] if not word.startswith("-")]
    verbs = ("stop", "start", "restart", *(("enable", "disable") if "--now" in words else ()))
    return plain[1:] if plain and plain[0] in verbs else []


def _changes(text: str, words: Sequence[str]) -> bool:
    """Whether a command that no pattern knows may change the host or start something."""
    if text.startswith("write "):
        value, _, target = text.removeprefix("write ").partition(" > ")
        # Words go to a log or to people, and values to the kernel.
        may_be_host = target.startswith(UNKNOWN) and " " not in value
        return (may_be_host or target.startswith(_HOST_FILES)) and target not in _LOGS
    program = words[0].rpartition("/")[2]
    edits = program in ("sed", "perl") and any(word.startswith("-i") for word in words[1:])
    acts = program == "find" and not _ACTIONS.isdisjoint(words)
    return edits or acts or (program not in _IDLE and not _LOOKS.match(text))
