"""The packages of several distributions: built by their own tools, installed into a root that is a
copy of this machine, upgraded, and removed, with all their scripts run in there."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sealed import can_seal
from tests.test_install import FOREIGN, VFIO_TOOLS

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (
    *("vfio_hooks", "hooks", "packaging", "install.sh", "tests"),
    *("README.md", "CHANGELOG.md", "LICENSE"),
)
HELD = '{"record":"begin","event":"prepare","vm":"win11","number":1,"journal":1}\n'

# A machine of its own: what is written goes to $1, and the commands that follow are run in there.
COPY = """
set -e
mkdir -p "$1/up" "$1/work" "$1/root"
mount -t tmpfs none "$1/up"
mkdir "$1/up/up" "$1/up/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/up/up,workdir=$1/up/work" "$1/root"
mount -t tmpfs none "$1/root/run"
for name in dev proc sys; do mount --rbind "/$name" "$1/root/$name"; done
mount --bind "$1/packages" "$1/root/mnt"
rm -rf "$1/root/etc/libvirt/hooks" "$1/root/usr/bin/py3compile"
cd "$1/root"
shift
exec "$@"
"""


@dataclass(frozen=True)
class Channel:
    """How a package is built, and what its package manager does with it. $ROOT is the machine, and
    /mnt in there has the packages."""

    build: str
    tool: str
    install: str
    remove: str
    pattern: str


CHANNELS = {
    "deb": Channel(
        "packaging/deb",
        "dpkg-buildpackage",
        "dpkg --root=$ROOT --force-depends --install $PACKAGE",
        "dpkg --root=$ROOT --purge vfio-hooks",
        "*.deb",
    ),
    "rpm": Channel(
        "packaging/rpm",
        "rpmbuild",
        "rpm --root $ROOT --dbpath /var/lib/rpm-here --nodeps --upgrade $PACKAGE",
        "rpm --root $ROOT --dbpath /var/lib/rpm-here --erase vfio-hooks",
        "*.rpm",
    ),
    "pacman": Channel(
        "packaging/pacman",
        "makepkg",
        "mkdir -p $ROOT/var/lib/pacman; pacman --root $ROOT --noconfirm -U -dd $PACKAGE",
        "pacman --root $ROOT --noconfirm -Rdd vfio-hooks",
        "*.pkg.tar*",
    ),
}

pytestmark = [
    pytest.mark.real_processes,
    pytest.mark.matrix_only,
    pytest.mark.skipif(not can_seal(), reason="needs root and mount namespaces"),
]


@pytest.fixture(scope="module", params=CHANNELS)
def channel(request: pytest.FixtureRequest) -> Channel:
    made = CHANNELS[request.param]
    if not shutil.which(made.tool):
        pytest.skip(f"{made.tool} is not installed; tests/run --matrix installs it")
    return made


@pytest.fixture(scope="module")
def packages(channel: Channel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, "one", and one of a later version, "two"."""
    folder = tmp_path_factory.mktemp("packages")
    for name, version in (("one", "0.1.0"), ("two", "99.0")):
        checkout = tmp_path_factory.mktemp(name)
        for source in SOURCES:
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy2
            copy(ROOT / source, checkout / source)
        init = checkout / "vfio_hooks/__init__.py"
        init.write_text(re.sub(r'(__version__ = )".*"', rf'\1"{version}"', init.read_text()))
        (folder / name).mkdir()
        subprocess.run(
            [str(checkout / channel.build), str(folder / name)],
            check=True,
            capture_output=True,
            timeout=600,
        )
    return folder


class Machine:
    """A copy of this machine, for as long as one script runs in it."""

    def __init__(self, folder: Path, channel: Channel, packages: Path) -> None:
        self.folder = folder
        self.channel = channel
        (folder / "packages").symlink_to(packages)

    def run(self, *lines: str, hook: str = "") -> list[str]:
        """The lines that a script prints, one that may do `install`, `remove` and `hooks`. A hook
        of the user's own is there before."""
        (self.folder / "hook").write_text(hook)
        script = f"""
        ROOT=$PWD
        mkdir -p etc/libvirt/hooks run/vfio-hooks
        [ ! -s "{self.folder}/hook" ] || install -m 755 "{self.folder}/hook" etc/libvirt/hooks/qemu
        log={self.folder}/log
        install() {{
            PACKAGE=$(echo "{self.folder}/packages/$1"/{self.channel.pattern})
            quiet "{self.channel.install}"
        }}
        remove() {{ quiet "{self.channel.remove}"; }}
        quiet() {{ eval "$1" >"$log" 2>&1 || {{ echo failed; grep ^vfio-hooks: "$log"; }}; }}
        hooks() {{ ls etc/libvirt/hooks | xargs; }}
        """
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", COPY, "sh", str(self.folder), "sh", "-c"]
            + [script + "\n".join(lines)],
            capture_output=True,
            text=True,
            timeout=300,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


@pytest.fixture
def machine(channel: Channel, packages: Path, tmp_path: Path) -> Machine:
    return Machine(tmp_path, channel, packages)


def test_no_package_owns_the_hook_and_none_leaves_a_file(machine: Machine) -> None:
    told = machine.run(
        "install one",
        "hooks",
        "chroot . /etc/libvirt/hooks/qemu other prepare begin - </dev/null; echo $?",
        "find usr/lib/vfio-hooks -name '*.pyc' | grep -c dispatch",
        "remove",
        "find etc/libvirt/hooks usr/lib/vfio-hooks usr/bin/vfio-hooks -type f 2>/dev/null || true",
    )
    assert told == ["qemu qemu.d", "0", "1"]


def test_all_packages_have_the_files_that_install_sh_lays_out(
    machine: Machine, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    subprocess.run(
        [str(ROOT / "install.sh"), "--package", "--destdir", str(target), "--prefix", "/usr"],
        check=True,
        capture_output=True,
        timeout=120,
    )
    # The packages are of another version, and Debian has another folder for zsh.
    names = sorted(
        re.sub(r"vfio-hooks/\d[\d.]*-\w+", "vfio-hooks/0*", str(path.relative_to(target))).replace(
            "zsh/site-functions", "zsh/*"
        )
        for path in target.rglob("*")
        if path.is_file()
    )
    assert len(names) > 200
    (tmp_path / "names").write_text("\n".join(names) + "\n")
    told = machine.run(
        "install one",
        f"while read -r name; do ls $name >/dev/null 2>&1 || ls $name.gz >/dev/null 2>&1 || "
        f"echo $name; done <{tmp_path}/names",
    )
    assert told == []


def test_rpmlint_has_nothing_to_say(channel: Channel, packages: Path) -> None:
    if channel.tool != "rpmbuild" or not shutil.which("rpmlint"):
        pytest.skip("it is for the package of rpm, and has to be installed")
    told = subprocess.run(
        ["rpmlint", "-c", str(ROOT / "packaging/rpmlint.toml"), *packages.glob("one/*.rpm")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "0 errors, 0 warnings" in told.stdout, told.stdout


def test_a_hook_of_the_users_own_is_kept_and_comes_back(machine: Machine) -> None:
    told = machine.run(
        "install one", "hooks", "remove", "hooks", "cat etc/libvirt/hooks/qemu", hook=FOREIGN
    )
    assert told == ["qemu qemu.d qemu.kept", "qemu", *FOREIGN.splitlines()]


def test_lines_that_were_added_to_vfio_tools_hook_are_not_lost(machine: Machine) -> None:
    told = machine.run(
        "install one", "cat etc/libvirt/hooks/qemu", hook=f"{VFIO_TOOLS}mine --now\n"
    )
    assert told[0] == "failed" or machine.channel.tool == "makepkg"
    assert told[-1] == "mine --now"


def test_it_stays_while_the_host_is_changed(machine: Machine) -> None:
    told = machine.run(
        "install one",
        f"printf '%s' '{HELD}' > run/vfio-hooks/a.journal",
        "remove",
        "hooks",
        "rm run/vfio-hooks/a.journal",
        "remove",
        "hooks",
    )
    refusal = "vfio-hooks: the host is still changed for the VM 'win11': shut it down"
    assert told[0] == "failed"
    assert told[1].startswith(refusal)
    assert told[-2:] == ["qemu qemu.d", ""]


def test_an_upgrade_changes_the_hook_and_leaves_one_version(machine: Machine) -> None:
    told = machine.run(
        "install one",
        "install two",
        "grep -o 'vfio-hooks/[0-9.]*' etc/libvirt/hooks/qemu",
        "hooks",
        "ls -A usr/lib/vfio-hooks | sed 's/-.*//' | xargs",
        hook=FOREIGN,
    )
    assert told == ["vfio-hooks/99.0", "qemu qemu.d qemu.kept", "99.0 hook switch"]
