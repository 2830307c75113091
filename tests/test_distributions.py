"""install.sh on distributions that cannot be run here: which command would install what.

A mount namespace has another /etc/os-release, hides Python's modules, and has folders of its own
where files go. The package manager is a stand-in that notes its arguments and unhides.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.sealed import can_seal

ROOT = Path(__file__).resolve().parents[1]
MODULES = "/usr/lib/python3/dist-packages"

pytestmark = [
    pytest.mark.real_processes,
    pytest.mark.skipif(not can_seal(), reason="needs root and mount namespaces"),
]

SEALED = """
set -e
mount --bind "$1/os-release" /etc/os-release
for folder in /usr/local /etc/libvirt /run; do mount -t tmpfs none "$folder"; done
mount -t tmpfs none /var/opt
if [ -e "$1/image" ]; then : > /run/ostree-booted; fi
if [ -e "$1/readonly" ]; then
    for folder in $(cat "$1/readonly"); do
        mountpoint -q $folder || mount --rbind $folder $folder
        mount -o remount,ro,bind $folder
    done
fi
mount --bind "$1/empty" "$2"
PATH=$1/bin:/usr/sbin:/usr/bin:/sbin:/bin
shift 2
"$@"
"""
# Called twice, it succeeds the second time, where the test says so.
MANAGER = """\
#!/bin/sh
echo "$(basename "$0") $*" >> {notes}
if [ -e {folder}/fails ] && rm {folder}/fails; then exit 100; fi
umount {modules} 2>/dev/null
exit 0
"""

DEBIAN = "ID=debian\n"
UBUNTU = "ID=ubuntu\nID_LIKE=debian\n"
FEDORA = "ID=fedora\n"
ROCKY = 'ID="rocky"\nID_LIKE="rhel centos fedora"\n'
ARCH = "ID=arch\n"
CACHYOS = "ID=cachyos\nID_LIKE=arch\n"
TUMBLEWEED = 'ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n'
DEBIAN_WORDS = "apt-get -o DPkg::Lock::Timeout=300 install --yes --quiet --no-install-recommends"
FEDORA_WORDS = "dnf install --assumeyes --setopt=install_weak_deps=False"
ARCH_WORDS = "pacman --sync --needed --noconfirm"
SUSE_WORDS = "zypper --non-interactive install --no-recommends"
THREE = "python3-lxml python3-sh python3-libvirt"
ARCH_THREE = "python-lxml python-sh libvirt-python"
COMMANDS = {
    "debian": (DEBIAN, DEBIAN_WORDS, THREE),
    "ubuntu": (UBUNTU, DEBIAN_WORDS, THREE),
    "fedora": (FEDORA, FEDORA_WORDS, THREE),
    "rocky": (ROCKY, FEDORA_WORDS, THREE),
    "arch": (ARCH, ARCH_WORDS, ARCH_THREE),
    "cachyos": (CACHYOS, ARCH_WORDS, ARCH_THREE),
    # There, commands are run without sh.
    "tumbleweed": (TUMBLEWEED, SUSE_WORDS, "python3-lxml python3-libvirt-python"),
}


class Machine:
    """A distribution, as far as install.sh can see."""

    def __init__(self, folder: Path, release: str) -> None:
        self.folder = folder
        self.notes = folder / "notes"
        for name in ("bin", "empty"):
            (folder / name).mkdir()
        (folder / "os-release").write_text(release)
        for name in ("apt-get", "dnf", "pacman", "zypper"):
            self.program(name, MANAGER.format(notes=self.notes, folder=folder, modules=MODULES))

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def install(self, *options: str) -> subprocess.CompletedProcess[str]:
        script = str(ROOT / "install.sh")
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", SEALED, "sh", str(self.folder), MODULES]
            + ["bash", script, *options],
            capture_output=True,
            text=True,
            timeout=300,
            env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
        )

    def called(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []


@pytest.mark.parametrize(("release", "words", "packages"), COMMANDS.values(), ids=COMMANDS)
def test_what_is_missing_is_installed(
    tmp_path: Path, release: str, words: str, packages: str
) -> None:
    machine = Machine(tmp_path, release)
    told = machine.install()
    assert (told.returncode, told.stderr) == (0, "")
    assert machine.called() == [f"{words} {packages}"]
    assert f"install the packages {packages}\n" in told.stdout
    assert "write /etc/libvirt/hooks/qemu\n" in told.stdout


def test_a_dry_run_calls_no_package_manager(tmp_path: Path) -> None:
    machine = Machine(tmp_path, ARCH)
    told = machine.install("--dry-run")
    assert told.stdout.startswith("would install the packages python-lxml ")
    assert machine.called() == []


def test_debian_without_package_lists(tmp_path: Path) -> None:
    machine = Machine(tmp_path, DEBIAN)
    (tmp_path / "fails").touch()
    assert machine.install().returncode == 0
    words = [line.split()[3] for line in machine.called()]
    assert words == ["install", "update", "install"]


@pytest.mark.parametrize(
    ("release", "said"),
    [
        ("ID=slackware\n", "/usr/bin/python3 lacks lxml"),
        ("", "/usr/bin/python3 lacks lxml"),
        (ARCH, "cannot install python-lxml python-sh libvirt-python: pacman says why above"),
    ],
)
def test_what_cannot_be_installed_is_told(tmp_path: Path, release: str, said: str) -> None:
    machine = Machine(tmp_path, release)
    (tmp_path / "fails").touch()
    told = machine.install()
    assert told.returncode == 1
    assert said in told.stderr
    assert "/etc/libvirt" not in told.stdout


def test_a_system_that_is_an_image(tmp_path: Path) -> None:
    """Silverblue, Bazzite: dnf would fail, and only its user can restart it."""
    machine = Machine(tmp_path, FEDORA)
    (tmp_path / "image").touch()
    told = machine.install()
    assert told.returncode == 1
    assert "rpm-ostree install python3-lxml python3-sh python3-libvirt (in the" in told.stderr
    assert machine.called() == []


THREE_OF_SUSE = "python3-lxml python3-libvirt-python"


@pytest.mark.parametrize(
    ("release", "program", "said"),
    [
        (TUMBLEWEED, "transactional-update", f"transactional-update pkg install {THREE_OF_SUSE}"),
        (ARCH, "steamos-readonly", f"steamos-readonly disable; pacman -S --needed {ARCH_THREE}; "),
        (ARCH, "", f"put {ARCH_THREE} into it"),
    ],
)
def test_a_usr_that_is_read_only(tmp_path: Path, release: str, program: str, said: str) -> None:
    machine = Machine(tmp_path, release)
    (tmp_path / "readonly").write_text("/usr")
    if program:
        machine.program(program, "#!/bin/sh\n")
    told = machine.install()
    assert told.returncode == 1
    assert said in told.stderr
    assert machine.called() == []


@pytest.mark.parametrize(
    ("readonly", "prefix"),
    [("", "/usr/local"), ("/usr/local", "/var/opt/vfio-hooks")],
)
def test_where_it_goes_where_usr_is_an_image(tmp_path: Path, readonly: str, prefix: str) -> None:
    machine = Machine(tmp_path, DEBIAN)
    (tmp_path / "readonly").write_text(readonly)
    told = machine.install()
    assert (told.returncode, told.stderr) == (0, "")
    assert f"write {prefix}/bin/vfio-hooks\n" in told.stdout
    called = "vfio-hooks" if prefix.startswith("/usr") else f"{prefix}/bin/vfio-hooks"
    assert told.stdout.endswith(f"sudo {called} check VM; sudo {called} init VM\n")


def test_a_dry_run_tells_all_that_would_fail(tmp_path: Path) -> None:
    machine = Machine(tmp_path, FEDORA)
    (tmp_path / "image").touch()
    (tmp_path / "readonly").write_text("/usr/local /var/opt /etc/libvirt /etc")
    told = machine.install("--dry-run")
    assert told.returncode == 1
    lines = [line for line in told.stdout.splitlines() if line.startswith("would fail: ")]
    for word in (
        "/usr/local/bin is mounted",
        "/etc/libvirt/hooks is mounted",
        "rpm-ostree install",
    ):
        assert any(word in line for line in lines), told.stdout
    refused = machine.install()
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "read-only" in refused.stderr


def test_selinux_labels_are_set(tmp_path: Path) -> None:
    machine = Machine(tmp_path, FEDORA)
    machine.program("selinuxenabled", "#!/bin/sh\n")
    machine.program("restorecon", f'#!/bin/sh\necho "$@" >> {machine.notes}\n')
    assert "set the SELinux labels\n" in machine.install().stdout
    labelled = machine.called()[-1].split()
    assert labelled[:4] == [
        *("-R", "/usr/local/lib/vfio-hooks", "/usr/local/bin/vfio-hooks", "/etc/libvirt/hooks")
    ]
    assert "/usr/local/share/man/man1/vfio-hooks.1" in labelled
