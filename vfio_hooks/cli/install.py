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
libvirt runs the hook as root, at each start of a VM. So nothing of it may come from an environment
or a home that somebody else writes to, or that an upgrade of Python breaks. This copies the program
to a folder of root's and has the distribution's own Python run it; the environment is not needed
afterwards. It does what install.sh does, and takes an upgrade or --uninstall in the same way.

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
        line="put the hook and the command onto this host, from a wheel of PyPI",
        description="Put the hook and the command onto this host, or take them off again.",
        epilog=_EPILOG,
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be done")
    parser.add_argument(
        "--yes", action="store_true", help="go on without the lines you added to VFIO-Tools' hook"
    )
    parser.add_argument("--uninstall", action="store_true", help="take it off again")
    parser.add_argument("--prefix", metavar=DIR, help="in place of /usr/local")


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
    """Raise HookError where somebody else than root could have written what is to be installed."""
    paths = [Path(top, name) for top, _, names in os.walk(_PACKAGE) for name in names]
    listed = (script.parent / "packaging/installer").read_text(encoding="utf-8")
    paths += (script.parent / name for name in listed.split())
    for path in paths:
        try:
            trusted(str(path), "/")
        except HookError as error:
            raise HookError(
                error.problem,
                "install it into a folder of root's: sudo python3 -m venv /opt/vfio-hooks; "
                "sudo /opt/vfio-hooks/bin/pip install vfio-hooks",
            ) from None
