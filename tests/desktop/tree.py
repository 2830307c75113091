"""Trees of Debian with the desktops' programs, kept in the cache."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from tests.desktop.programs import PROGRAMS, XORG_CONF
from tests.vm import cache, tools
from tests.vm.process import VmError, progress, run_logged
from tests.vm.release import EXCLUDED

USER = "ada"
MISSING = "not-installed"
"""A folder of the tree: a file for each program that could not be installed, with the reason."""
# Each by itself, since one that a release cannot install must not take the others along.
_INSTALL = f"""\
set -e
export DEBIAN_FRONTEND=noninteractive
root=$1
install() {{
    name=$1
    shift
    chroot "$root" apt-get install --yes --no-install-recommends "$@" </dev/null ||
        echo "$* cannot be installed" >"$root/{MISSING}/$name"
}}
mkdir "$root/{MISSING}"
chroot "$root" useradd --uid 1000 --create-home {USER}
{{packages}}
printf '%s' {shlex.quote(XORG_CONF)} >"$root/etc/X11/outputs.conf"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
"""


def provide(suite: str) -> Path:
    """The tree of a release, made now when the cache does not have it. Raises VmError."""
    if os.geteuid():
        raise VmError("only root can make and enter a tree of Debian")
    lines = (shlex.join(["install", one.name, *one.packages]) for one in PROGRAMS)
    script = _INSTALL.replace("{packages}", "\n".join(lines))
    entry = cache.root() / f"desktop-{suite}-{cache.key([suite, script, *EXCLUDED])}"
    if not entry.exists():
        with cache.locked(f"desktop-{suite}"):
            # Another process may have made it while we waited for the lock.
            if not entry.exists():
                _make(suite, script, entry)
    return entry


def _make(suite: str, script: str, entry: Path) -> None:
    tools.ensure("mmdebstrap", "unshare", "setpriv")
    log = cache.root() / f"desktop-{suite}.log"
    log.unlink(missing_ok=True)
    words = [tools.program("mmdebstrap"), "--mode=root", "--variant=minbase"]
    # What a mirror has may be older than the release file says that it is good for.
    words += ["--format=directory", '--aptopt=Acquire::Check-Valid-Until "false"']
    words += [f"--dpkgopt=path-exclude={one}" for one in EXCLUDED]
    with (
        progress(f"{suite}: installing the desktops' programs", 120),
        cache.new_entry(f"desktop-{suite}", entry) as work,
    ):
        words += [f"--customize-hook={script}", suite, str(work)]
        run_logged(words, f"install the desktops of {suite}", timeout=1800, log=log)
        work.chmod(0o755)
