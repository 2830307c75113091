"""The completion script for bash. It needs nothing but bash itself."""

from collections.abc import Iterator

from vfio_hooks.cli.shells import NAMES, PAST, quote
from vfio_hooks.cli.tree import Argument, Verb

_SCRIPT = r"""# bash completion of vfio-hooks, made by: vfio-hooks completion bash

# The names of VMs; with "past" also of those that have changed the host.
_vfio_hooks_vms() {
    local path
    for path in @CONFIG@/qemu.d/*/; do
        [[ -d $path ]] && path=${path%/} && printf '%s\n' "${path##*/}"
    done
    [[ ${1-} == past ]] && sed -n @NAMES@ @STATE@/*.journal 2>/dev/null
}

# VERB and an option, or the number of an argument: what stands there.
_vfio_hooks_value() {
    case $1:$2 in
@VALUES@
    esac
}

_vfio_hooks_options() {
    case $1 in
@OPTIONS@
    esac
}

_vfio_hooks() {
    local word quoted what="" verb="" prefix="" cur=${COMP_WORDS[COMP_CWORD]}
    local -i i position=0
    local -a words=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        # bash makes three words of --root=DIR.
        if [[ $word == "=" ]]; then
            continue
        elif [[ -n $what ]]; then
            what=""
        elif [[ $word == -* ]]; then
            what=$(_vfio_hooks_value "$verb" "$word")
        elif [[ -z $verb ]]; then
            verb=$word
        else
            position+=1
        fi
    done
    [[ $cur != "=" ]] || cur=""
    if [[ -z $what && $cur == -* ]]; then
        what="words $(_vfio_hooks_options "$verb")"
    elif [[ -z $what ]]; then
        what=$(_vfio_hooks_value "$verb" "$position")
    fi
    COMPREPLY=()
    case $what in
    file) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    folder) mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
    vm) mapfile -t words < <(_vfio_hooks_vms) ;;
    past) mapfile -t words < <(_vfio_hooks_vms past | sort -u) ;;
    words*) read -ra words <<<"${what#words}" ;;
    list*)
        read -ra words <<<"${what#list}"
        prefix=${cur%"${cur##*,}"}
        compopt -o nospace 2>/dev/null
        ;;
    esac
    [[ $what != @(file|folder) ]] || compopt -o filenames 2>/dev/null
    for word in "${words[@]}"; do
        printf -v quoted %q "$word"
        [[ $prefix$quoted != "$cur"* && $prefix$word != "$cur"* ]] || COMPREPLY+=("$prefix$quoted")
    done
}

complete -F _vfio_hooks vfio-hooks
"""


def script(top: Verb, verbs: tuple[Verb, ...], config: str, state: str) -> str:
    """The script; `config` and `state` are the folders that VMs are looked up in."""
    names = " ".join(verb.name for verb in verbs)
    values = [f":0) echo words {names} ;;"]
    values += [case for verb in verbs for case in _values(verb)]
    options = [
        f"{verb.name or quote('')}) echo {' '.join(_flags(verb))} ;;" for verb in (top, *verbs)
    ]
    parts = {
        "@CONFIG@": quote(config),
        "@STATE@": quote(state),
        "@NAMES@": quote(NAMES),
        "@VALUES@": "\n".join("    " + line for line in values),
        "@OPTIONS@": "\n".join("    " + line for line in options),
    }
    text = _SCRIPT
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return text


def _flags(verb: Verb) -> list[str]:
    return [flag for option in verb.options for flag in option.flags]


def _values(verb: Verb) -> Iterator[str]:
    for option in verb.options:
        if option.kind != "flag":
            places = " | ".join(f"{verb.name}:{flag}" for flag in option.flags)
            yield f"{places}) echo {_what(option, verb)} ;;"
    for position, argument in enumerate(verb.positionals):
        yield f"{verb.name}:{position}) echo {_what(argument, verb)} ;;"


def _what(argument: Argument, verb: Verb) -> str:
    if argument.kind == "vm" and verb.name in PAST:
        return "past"
    return " ".join((argument.kind, *argument.words))
