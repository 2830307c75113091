"""`vfio-hooks install`: from a wheel of PyPI onto the host, as install.sh does it."""

import argparse
import os
import subprocess
from pathlib import Path

from vfio_hooks.cli.common import Verbs, add_verb, need_root
from vfio_hooks.cli.metavars import DIR
from vfio_hooks.config.trust import trusted
from vfio_hooks.errors import HookError

_PACKAGE = Path(__file__).resolve().parents[1]
_SCRIPTS = (_PACKAGE / "installer/install.sh", _PACKAGE.parent / "install.sh")
"""In a wheel, and in a checkout."""
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_EPILOG = """\
libvirt runs the hook as root, at each start of a VM. So no part of it may be in a virtual
environment or a home that somebody else can write to, or that an upgrade of Python breaks. This
verb copies the program to a folder that belongs to root, where the distribution's own Python runs
it. The environment is not needed afterwards. This does the same as install.sh, also for upgrades
and for --uninstall.

examples:
  sudo python3 -m venv /opt/vfio-hooks
  sudo /opt/vfio-hooks/bin/pip install vfio-hooks
  sudo /opt/vfio-hooks/bin/vfio-hooks install --dry-run
  sudo /opt/vfio-hooks/bin/vfio-hooks install
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "install",
        run,
        line="install the hook and the command on this host, from a wheel of PyPI",
        description="Install the hook and the command on this host, or remove them again.",
        epilog=_EPILOG,
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be done")
    parser.add_argument(
        "--yes", action="store_true", help="drop the lines that you added to VFIO-Tools' hook"
    )
    parser.add_argument("--uninstall", action="store_true", help="remove it again")
    parser.add_argument("--prefix", metavar=DIR, help="the folder to use instead of /usr/local")


def run(arguments: argparse.Namespace) -> int:
    need_root("install")
    script = next((path for path in _SCRIPTS if path.is_file()), None)
    if script is None:
        raise HookError(
            "this vfio-hooks is installed already",
            "upgrade it as it was installed: by your package manager, install.sh or a new wheel",
        )
    _check_owners(script)
    options = [
        f"--{name}" for name in ("dry-run", "yes", "uninstall") if _is_given(arguments, name)
    ]
    if arguments.prefix is not None:
        options += ["--prefix", arguments.prefix]
    return subprocess.run(["/bin/bash", str(script), *options], env=_ENVIRONMENT).returncode


def _is_given(arguments: argparse.Namespace, name: str) -> bool:
    return bool(getattr(arguments, name.replace("-", "_")))


def _check_owners(script: Path) -> None:
    """Raise HookError if somebody other than root could have written what will be installed."""
    paths = [Path(top, name) for top, _, names in os.walk(_PACKAGE) for name in names]
    listed = (script.parent / "packaging/installer").read_text(encoding="utf-8")
    paths += (script.parent / name for name in listed.split())
    for path in paths:
        try:
            trusted(str(path), "/")
        except HookError as error:
            raise HookError(
                error.problem,
                "use a folder that belongs to root: sudo python3 -m venv /opt/vfio-hooks; "
                "sudo /opt/vfio-hooks/bin/pip install vfio-hooks",
            ) from None
