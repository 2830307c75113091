#!/usr/bin/env bash
# tree-sitter's bash grammar finds errors in plain, valid lines of hook scripts.
#
# Guessed: whatever `bash -n` accepts has no ERROR node, odd arithmetic and here-documents aside.
# So is:   these are errors: ";&" at the end of a case's last branch, "then" or "do" right behind "))" or "]]",
#          a descriptor opened with "<>", extended globs in a command's words (but not in case or [[ ]]),
#          and two here-documents on one line. ";;&" and process substitution are fine.
# Met by:  whose editor, linter or converter reads hook scripts by this grammar: the rest of the line is lost
#          to it.
# Seen:    tree-sitter-bash 0.25.1 with tree-sitter 0.26.1 (PyPI), GNU bash 5.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

timeout 300 python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
    --target "$temp/python" tree-sitter==0.26.1 tree-sitter-bash==0.25.1 2>"$temp/pip" || {
    cat "$temp/pip"
    exit 2
}
cat >"$temp/parse.py" <<'PYTHON'
import sys

import tree_sitter
import tree_sitter_bash

parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))
print("error" if parser.parse(sys.stdin.buffer.read()).root_node.has_error else "none")
PYTHON

line() {
    bash -O extglob -n <<<"$2"
    expect "$2" "$1" "$(timeout 60 env PYTHONPATH="$temp/python" python3 "$temp/parse.py" <<<"$2")"
}
# shellcheck disable=SC2016 # lines of scripts
{
    line none 'case $2 in prepare) a ;;& *) b ;; esac'
    line error 'case $2 in prepare) a ;; *) b ;& esac'
    line none 'if ((EUID)); then exit; fi'
    line error 'if ((EUID)) then exit; fi'
    line error 'while [[ -e /dev/kvmfr0 ]] do a; done'
    line none 'exec 3>/run/lock/vm'
    line error 'exec 3<>/run/lock/vm'
    line none 'case $1 in @(win10|win11)) a ;; esac'
    line error 'systemctl stop @(a|b).service'
    line error $'diff /dev/fd/3 - 3<<A <<B\na\nA\nb\nB'
    line none 'while read -r a; do b; done < <(lspci)'
}
found
