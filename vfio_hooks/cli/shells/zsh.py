"""The completion function for zsh, to be found in $fpath as _vfio-hooks, or sourced."""

from collections.abc import Iterator

from vfio_hooks.cli.shells import NAMES, PAST, quote
from vfio_hooks.cli.tree import Argument, Verb

_SCRIPT = r"""#compdef vfio-hooks
# zsh completion of vfio-hooks, made by: vfio-hooks completion zsh

_vfio_hooks_vms() {
    local -a names
    names=(@CONFIG@/qemu.d/*(-/N:t))
    compadd "$@" -a names
}

# Also those that have changed the host.
_vfio_hooks_past() {
    local -aU names
    names=(@CONFIG@/qemu.d/*(-/N:t))
    names+=(${(f)"$(sed -n @NAMES@ @STATE@/*.journal(N) /dev/null 2>/dev/null)"})
    compadd "$@" -a names
}

_vfio-hooks() {
    local curcontext=$curcontext state line
    local -A opt_args
    local -a verbs
    _arguments -C @TOP@ '1: :->verb' '*:: :->arguments'
    case $state in
    verb)
        verbs=(
@VERBS@
        )
        _describe -t verbs verb verbs
        ;;
    arguments)
        case $words[1] in
@ARGUMENTS@
        esac
        ;;
    esac
}

if [[ $funcstack[1] == _vfio-hooks ]]; then
    _vfio-hooks "$@"
else
    compdef _vfio-hooks vfio-hooks
fi
"""


def script(top: Verb, verbs: tuple[Verb, ...], config: str, state: str) -> str:
    """The script; `config` and `state` are the folders that VMs are looked up in."""
    described = (quote(f"{verb.name}:{verb.line}") for verb in verbs)
    parts = {
        "@CONFIG@": quote(config),
        "@STATE@": quote(state),
        "@NAMES@": quote(NAMES),
        "@TOP@": " ".join(spec for option in top.options for spec in _option(option, top)),
        "@VERBS@": "\n".join(" " * 12 + line for line in described),
        "@ARGUMENTS@": "\n".join(_case(verb) for verb in verbs),
    }
    text = _SCRIPT
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return text


def _case(verb: Verb) -> str:
    specs = [spec for option in verb.options for spec in _option(option, verb)]
    for argument in verb.positionals:
        colon = "::" if argument.optional else ":"
        specs.append(quote(f"{colon}{_plain(argument.name)}:{_action(argument, verb)}"))
    lines = " \\\n".join(f"{' ' * 12}{spec}" for spec in specs)
    return f"        {verb.name})\n            _arguments \\\n{lines}\n            ;;"


def _option(option: Argument, verb: Verb) -> Iterator[str]:
    others = f"({' '.join(option.flags)})" if len(option.flags) > 1 else ""
    for flag in option.flags:
        if option.kind == "flag":
            yield quote(f"{others}{flag}[{_plain(option.text)}]")
            continue
        # The value may be a word of its own, too.
        joined = "=" if flag.startswith("--") else "+"
        value = f"{_plain(option.name)}:{_action(option, verb)}"
        yield quote(f"{others}{flag}{joined}[{_plain(option.text)}]:{value}")


def _plain(text: str) -> str:
    for character in "\\[]:":
        text = text.replace(character, "\\" + character)
    return text


def _action(argument: Argument, verb: Verb) -> str:
    words = " ".join(argument.words)
    return {
        "any": " ",
        "words": f"({words})",
        "list": f"_sequence compadd - {words}",
        "file": "_files",
        "folder": "_files -/",
        "vm": "_vfio_hooks_past" if verb.name in PAST else "_vfio_hooks_vms",
    }[argument.kind]
