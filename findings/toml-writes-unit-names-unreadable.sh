#!/usr/bin/env bash
# The Python library toml writes the name of a unit such as mnt-my\x2ddisk.mount so that nobody can read it.
#
# Guessed: what dumps() writes every reader of TOML reads, and as the same text.
# So is:   it writes "\x2d" as it stands, where TOML wants "\\x2d". Python's own reader refuses the file, and
#          so does the library itself. Two backslashes and an x come back as another text, without an
#          error. tomli-w and tomlkit escape both.
# Met by:  whose script adds a [[service]] to vm.toml for a mount, swap or device unit: systemd writes "\x2d"
#          for a dash in a path. vfio-hooks then says on which line, and that single quotes help.
# Seen:    toml 0.10.2, tomli-w 1.2.0, tomlkit 0.13.3 (PyPI), with Python's tomllib.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

timeout 300 python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
    --target "$temp/python" toml==0.10.2 tomli-w==1.2.0 tomlkit==0.13.3 2>"$temp/pip" || {
    cat "$temp/pip"
    exit 2
}
# written LIBRARY TEXT: what that writes for the text as a unit, and what tomllib reads there.
written() {
    PYTHONPATH=$temp/python python3 - "$@" <<'PYTHON'
import importlib, sys, tomllib

text = importlib.import_module(sys.argv[1]).dumps({"unit": sys.argv[2]}).strip()
try:
    print(text, "is", tomllib.loads(text)["unit"])
except tomllib.TOMLDecodeError as error:
    print(text, "is an error:", str(error).partition(" (")[0])
PYTHON
}
unit='mnt-my\x2ddisk.mount'
expect "toml" 'unit = "mnt-my\x2ddisk.mount" is an error: Unescaped '"'\\'"' in a string' "$(written toml "$unit")"
expect "toml, two backslashes" 'unit = "my\\u002ddisk" is my\u002ddisk' "$(written toml 'my\\x2ddisk')"
for library in tomli_w tomlkit; do
    expect "$library" "unit = \"mnt-my\\\\x2ddisk.mount\" is $unit" "$(written $library "$unit")"
done
itself=$(PYTHONPATH=$temp/python python3 -c '
import sys, toml
try:
    print(toml.loads(toml.dumps({"unit": sys.argv[1]})))
except toml.TomlDecodeError as error:
    print(str(error).partition(" (")[0])' "$unit")
expect "toml, read by itself" "Reserved escape sequence used" "$itself"
found
