"""The completions for fish."""

from collections.abc import Iterator

from vfio_hooks.cli.shells import NAMES, PAST
from vfio_hooks.cli.tree import Argument, Verb

_SCRIPT = r"""# fish completions of vfio-hooks, made by: vfio-hooks completion fish

function __vfio_hooks_vms
    for path in @CONFIG@/qemu.d/*/
        string match -r '[^/]+(?=/$)' -- $path
    end
end

# Also those that have changed the host.
function __vfio_hooks_past
    __vfio_hooks_vms
    for path in @STATE@/*.journal
        sed -n @NAMES@ $path 2>/dev/null
    end
end

# Whether the verb is $argv[1], and, if $argv[2] is given, that many arguments follow it.
function __vfio_hooks_at
    set -l found
    set -l skip no
    for word in (commandline -opc)[2..-1]
        if test $skip = yes
            set skip no
        else if contains -- $word @TAKING@
            set skip yes
        else if not string match -q -- '-*' $word
            set -a found $word
        end
    end
    test "$found[1]" = "$argv[1]"
    and begin
        test (count $argv) -lt 2
        or test (count $found) -eq (math $argv[2] + 1)
    end
end

complete -c vfio-hooks -f
@COMPLETIONS@
"""


def script(top: Verb, verbs: tuple[Verb, ...], config: str, state: str) -> str:
    """The script; `config` and `state` are the folders that VMs are looked up in."""
    taking = {
        flag
        for verb in verbs
        for option in verb.options
        if option.kind != "flag"
        for flag in option.flags
    }
    parts = {
        "@CONFIG@": quote(config),
        "@STATE@": quote(state),
        "@NAMES@": quote(NAMES),
        "@TAKING@": " ".join(sorted(taking)),
        "@COMPLETIONS@": "\n".join(_completions(top, verbs)),
    }
    text = _SCRIPT
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return text.rstrip("\n") + "\n"


def quote(text: str) -> str:
    """A text as one word of fish."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _completions(top: Verb, verbs: tuple[Verb, ...]) -> Iterator[str]:
    for verb in verbs:
        yield _line("__vfio_hooks_at ''", f"-a {verb.name} -d {quote(verb.line)}")
    for verb in (top, *verbs):
        here = f"__vfio_hooks_at {verb.name or quote('')}"
        for option in verb.options:
            flags = " ".join(_flag(flag) for flag in option.flags)
            value = _value(option, verb) if option.kind != "flag" else ""
            yield _line(here, flags, value, f"-d {quote(option.text)}")
        for position, argument in enumerate(verb.positionals):
            if argument.kind != "any":
                yield _line(f"{here} {position}", _value(argument, verb).removeprefix("-x "))


def _line(*parts: str) -> str:
    condition, *others = parts
    return " ".join(filter(None, ("complete -c vfio-hooks -n", quote(condition), *others)))


def _flag(flag: str) -> str:
    return f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"


def _value(argument: Argument, verb: Verb) -> str:
    words = " ".join(argument.words)
    return {
        "any": "-x",
        "words": f"-x -a {quote(words)}",
        "list": f"-x -a {quote(f'(__fish_append , {words})')}",
        "file": "-r -F",
        "folder": "-x -a '(__fish_complete_directories)'",
        "vm": f"-x -a '(__vfio_hooks_{'past' if verb.name in PAST else 'vms'})'",
    }[argument.kind]
