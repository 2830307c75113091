"""install.sh below a folder of its own; tests/vm/test_install.py runs it on a whole host."""

import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.hosttree import domain_xml, gpu_host
from tests.sealed import Result, Sealed, can_seal

pytestmark = pytest.mark.real_processes
ROOT = Path(__file__).resolve().parents[1]
HOOKS = "/etc/libvirt/hooks"
FOREIGN = "#!/bin/sh\necho mine >&2\n"
INSTALLER = ("install.sh", "hooks/qemu", "packaging/switch", "packaging/installer")
"""What install.sh needs beside the package."""


# Told by the path that it runs.
VFIO_TOOLS = """\
#!/bin/bash
# Runs what is in qemu.d.
GUEST_NAME="$1"
HOOK_NAME="$2"
STATE_NAME="$3"
MISC="${@:4}"
BASEDIR="$(dirname $0)"
HOOKPATH="$BASEDIR/qemu.d/$GUEST_NAME/$HOOK_NAME/$STATE_NAME"
set -e # A script's failure is ours.
if [ -f "$HOOKPATH" ] && [ -x "$HOOKPATH" ]; then
    eval \\"$HOOKPATH\\" "$@"
elif [ -d "$HOOKPATH" ]; then
    while read file; do
        [ -z "$file" ] || eval \\"$file\\" "$@"
    done <<< "$(find -L "$HOOKPATH" -maxdepth 1 -type f -executable -print;)"
fi
"""


BY_NUMBER = '#!/bin/sh\nfor file in "${0%/*}/qemu.d/$1/$2/$3"/*; do "$file" "$@"; done\n'


class Target:
    """A folder that stands for the machine's root, and install.sh at work on it."""

    def __init__(self, root: Path, source: Path) -> None:
        self.root = root
        self.source = source
        self.hooks = root / "etc/libvirt/hooks"
        self.hook = self.hooks / "qemu"
        self.kept = self.hooks / "qemu.kept"
        self.command = root / "usr/local/bin/vfio-hooks"
        self.libraries = root / "usr/local/lib/vfio-hooks"

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(self.source / "install.sh"), "--destdir", str(self.root), *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def install(self, *options: str) -> str:
        done = self.run(*options)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def refuse(self, *options: str) -> str:
        """Run it where it must refuse: it changes nothing, and says why in one line."""
        before = self.tree()
        done = self.run(*options)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert self.tree() == before
        return done.stderr

    def tree(self) -> dict[str, tuple[int, int, bytes]]:
        """Everything there is, by path: mode, time of change, contents."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            seen = path.lstat()
            data = path.read_bytes() if path.is_file() else b""
            time = 0 if path.is_dir() else seen.st_mtime_ns
            found[str(path.relative_to(self.root))] = (seen.st_mode, time, data)
        return found

    def versions(self) -> list[str]:
        return sorted(path.name for path in self.libraries.iterdir() if path.is_dir())

    def library(self) -> str:
        """The version that the hook uses, which has to be the command's, too."""
        folders = [
            re.search(r'"/usr/local/lib/vfio-hooks/([^/"]+)"', path.read_text())
            for path in (self.hook, self.command)
        ]
        assert folders[0] and folders[1]
        assert folders[0][1] == folders[1][1]
        return folders[0][1]

    def be_host(self) -> None:
        """Make the folders that a host with libvirt has."""
        self.hooks.mkdir(parents=True)
        self.command.parent.mkdir(parents=True)
        self.libraries.parent.mkdir(parents=True)

    def foreign(self, path: Path, text: str = FOREIGN) -> None:
        path.write_text(text)
        path.chmod(0o750)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources with a package of a few modules. The whole one takes seconds to be compiled, and most
    tests are about what install.sh does with any."""
    copy = tmp_path_factory.mktemp("small")
    modules = ("__init__.py", "dispatch.py", "errors.py")
    for name in (*INSTALLER, *(f"vfio_hooks/{module}" for module in modules)):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    (copy / "packaging/installer").write_text("\n".join(INSTALLER))
    (copy / "vfio_hooks/cli").mkdir()
    (copy / "vfio_hooks/cli/__init__.py").write_text("def main(words):\n    print(*words)\n")
    return copy


@pytest.fixture
def target(tmp_path: Path, small: Path) -> Target:
    made = Target(tmp_path / "machine", small)
    made.be_host()
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Target:
    """A machine with the whole package, for tests that change nothing."""
    made = Target(tmp_path_factory.mktemp("whole") / "machine", ROOT)
    made.be_host()
    made.install()
    return made


@pytest.fixture
def checkout(tmp_path: Path, small: Path) -> Path:
    """Sources to be changed."""
    return shutil.copytree(small, tmp_path / "checkout")


def test_a_fresh_install_has_hook_command_and_compiled_package(whole: Target) -> None:
    package = whole.libraries / whole.library() / "vfio_hooks"
    sources = {path.relative_to(ROOT) for path in (ROOT / "vfio_hooks").rglob("*.py")}
    assert {path.relative_to(package.parent) for path in package.rglob("*.py")} == sources
    assert len(list(package.rglob("*.pyc"))) == len(sources)
    pages = {path.name for path in (ROOT / "vfio_hooks/man").iterdir()}
    assert {path.name for path in (package / "man").iterdir()} == pages
    assert whole.versions() == [whole.library()]
    installer = package.parent / "installer"
    listed = (ROOT / "packaging/installer").read_text().split()
    brought = (path for path in installer.rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert sorted(str(path.relative_to(installer)) for path in brought) == sorted(listed)
    assert (whole.hooks / "qemu.d").is_dir()
    for program in (whole.hook, whole.command):
        assert stat.S_IMODE(program.stat().st_mode) == 0o755
    for path in whole.root.rglob("*"):
        assert not path.stat().st_mode & 0o022, path


def test_compiled_files_name_the_place_where_they_end_up(whole: Target) -> None:
    compiled = next(whole.libraries.rglob("errors.*.pyc")).read_bytes()
    name = f"/usr/local/lib/vfio-hooks/{whole.library()}/vfio_hooks/errors.py"
    assert name.encode() in compiled
    assert str(whole.root).encode() not in compiled


def test_the_installed_package_is_the_only_one_that_is_used(target: Target) -> None:
    target.install()
    lines = target.hook.read_text().splitlines()
    assert [line for line in lines if line.startswith("LIBRARY")] == [
        f'LIBRARY = "/usr/local/lib/vfio-hooks/{target.library()}"'
    ]
    assert lines[0] == "#!/bin/sh"
    assert "python=/usr/bin/python3" in lines
    assert target.command.read_text().startswith("#!/usr/bin/python3 -I\n")


def test_manual_pages_and_completions_are_where_they_are_looked_for(whole: Target) -> None:
    share = whole.root / "usr/local/share"
    begins = {
        "man/man1/vfio-hooks.1": ".TH VFIO-HOOKS 1 ",
        "man/man5/vfio-hooks.toml.5": ".TH VFIO-HOOKS.TOML 5 ",
        "man/man7/vfio-hooks-check.7": ".TH VFIO-HOOKS-CHECK 7 ",
        "man/man7/vfio-hooks-migration.7": ".TH VFIO-HOOKS-MIGRATION 7 ",
        "bash-completion/completions/vfio-hooks": "# bash completion",
        "zsh/site-functions/_vfio-hooks": "#compdef vfio-hooks\n",
        "fish/vendor_completions.d/vfio-hooks.fish": "# fish completions",
    }
    found = {str(path.relative_to(share)) for path in share.rglob("*") if path.is_file()}
    assert found == set(begins)
    for name, text in begins.items():
        assert text in (share / name).read_text()[:100]
        assert stat.S_IMODE((share / name).stat().st_mode) == 0o644


def test_a_manual_page_that_was_changed_is_mended(target: Target) -> None:
    target.install()
    page = target.root / "usr/local/share/man/man1/vfio-hooks.1"
    whole = page.read_text()
    page.write_text("")
    assert "write /usr/local/share/man/man1/vfio-hooks.1\n" in target.install()
    assert page.read_text() == whole


def test_a_second_run_changes_nothing(target: Target) -> None:
    target.install()
    before = target.tree()
    assert target.install() == "everything is already installed\n"
    assert target.tree() == before


def test_uninstall_leaves_what_was_there_before(target: Target) -> None:
    before = target.tree()
    target.install()
    target.install("--uninstall")
    assert target.tree() == before


def test_uninstall_removes_the_folders_that_install_made(tmp_path: Path, small: Path) -> None:
    target = Target(tmp_path, small)
    target.install()
    target.install("--uninstall")
    assert target.tree() == {}


def test_no_folder_is_told_of_that_stays(tmp_path: Path, small: Path) -> None:
    """On an empty disk all folders are ours; then others put files into some."""
    target = Target(tmp_path, small)
    target.install()
    for path in (target.root / "usr/local/share/man/man1/other.1", target.hooks / "qemu.d/.mine"):
        path.touch()
    folders = {path for path in target.root.rglob("*") if path.is_dir()}
    pretended = target.install("--uninstall", "--dry-run")
    told = target.install("--uninstall")
    assert pretended.splitlines() == [f"would {line}" for line in told.splitlines()]
    gone = {f"/{path.relative_to(target.root)}" for path in folders if not path.exists()}
    said = set(re.findall("remove the folder (.*)", told))
    assert said == {path for path in gone if not path.startswith("/usr/local/lib/vfio-hooks/")}
    assert {"/usr/local/bin", "/usr/local/share/man/man5"} <= said


def test_uninstall_keeps_the_users_own_files(target: Target) -> None:
    target.install()
    mine = target.hooks / "qemu.d/win11/vm.toml"
    mine.parent.mkdir()
    mine.write_text("[pci]\n")
    (target.hooks / "vfio-hooks.toml").touch()
    kept = f"{HOOKS}/vfio-hooks.toml {HOOKS}/qemu.d/win11"
    told = target.install("--uninstall", "--dry-run").splitlines()
    assert told[-1] == f"would leave what is yours: {kept}"
    assert target.install("--uninstall").splitlines()[-1] == f"leave what is yours: {kept}"
    assert mine.read_text() == "[pci]\n"
    assert not target.hook.exists()


def test_uninstall_where_nothing_is_installed(target: Target) -> None:
    assert target.install("--uninstall") == "vfio-hooks is not installed\n"


def test_a_foreign_hook_is_kept_and_put_back(target: Target) -> None:
    target.foreign(target.hook)
    before = target.tree()
    assert "keep your own hook as /etc/libvirt/hooks/qemu.kept" in target.install()
    assert target.kept.read_text() == FOREIGN
    target.install()
    assert target.kept.read_text() == FOREIGN
    assert "put your own hook back" in target.install("--uninstall")
    assert target.tree() == before


@pytest.mark.parametrize("text", [VFIO_TOOLS, re.sub(r"\$(\w+)", r"${\1}", VFIO_TOOLS), BY_NUMBER])
def test_a_hook_that_does_no_more_than_ours_is_not_run_beside_it(target: Target, text: str) -> None:
    target.foreign(target.hook, text)
    before = target.tree()
    assert "itself runs the executables in qemu.d" in target.install()
    assert (target.hooks / "qemu.replaced").read_text() == text
    assert not target.kept.exists()
    target.install("--uninstall")
    assert target.tree() == before


OWN_LINES = [
    "systemctl set-property --runtime -- user.slice AllowedCPUs=0-3",
    'if [[ $1 == win10 ]]; then echo "$2" >> /tmp/log; fi',
    '"$BASEDIR/cpuset.sh" "$@"',
]


@pytest.mark.parametrize("line", OWN_LINES)
def test_lines_added_to_that_hook_are_not_lost_in_silence(target: Target, line: str) -> None:
    text = VFIO_TOOLS + f"# mine\n{line}\n"
    target.foreign(target.hook, text)
    before = target.tree()
    done = target.run()
    assert (done.returncode, done.stdout, target.tree()) == (1, "", before)
    number = text.count("\n")
    assert [one for one in done.stderr.splitlines() if one.startswith("  line ")] == [
        f"  line {number}: {line}"
    ]
    assert done.stderr.splitlines()[-1].startswith("install.sh: nothing is changed; ")
    dry = target.run("--dry-run")
    assert (dry.returncode, line in dry.stderr, target.tree()) == (0, True, before)
    assert target.run("--yes").returncode == 0
    assert (target.hooks / "qemu.replaced").read_text() == text
    assert not target.kept.exists()


def test_what_is_known_of_devices_goes_too(target: Target) -> None:
    target.install()
    for name in ("devices/6b7b8a1e", "win11.xml"):
        file = target.root / "var/lib/vfio-hooks" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    target.install("--uninstall", "--dry-run")
    assert "leave what is yours: /var/lib/vfio-hooks\n" in target.install("--uninstall")
    assert [one.name for one in (target.root / "var/lib/vfio-hooks").iterdir()] == ["win11.xml"]


def test_of_two_hooks_of_yours_the_one_that_ran_comes_back(target: Target) -> None:
    target.foreign(target.hook, VFIO_TOOLS)
    target.install()
    target.hook.unlink()
    target.foreign(target.hook)
    target.install()
    dry = target.install("--uninstall", "--dry-run")
    told = target.install("--uninstall")
    assert "leave what is yours: /etc/libvirt/hooks/qemu.replaced\n" in told
    assert dry.splitlines() == [f"would {line}" for line in told.splitlines()]
    assert target.hook.read_text() == FOREIGN
    assert (target.hooks / "qemu.replaced").read_text() == VFIO_TOOLS


def test_uninstall_leaves_the_hook_of_another_installation(target: Target) -> None:
    target.install("--prefix", "/usr")
    told = target.refuse("--uninstall")
    assert "/etc/libvirt/hooks/qemu belongs to the vfio-hooks in /usr/lib/vfio-hooks/" in told
    assert told.endswith(" --uninstall --prefix /usr\n")
    target.install("--uninstall", "--prefix", "/usr")
    assert not target.hook.exists()


def test_a_foreign_hook_that_is_a_link_stays_one(target: Target) -> None:
    (target.hooks / "mine").write_text(FOREIGN)
    target.hook.symlink_to("mine")
    target.install()
    assert not target.hook.is_symlink()
    assert target.kept.readlink() == Path("mine")
    target.install("--uninstall")
    assert target.hook.readlink() == Path("mine")


def test_a_link_to_our_hook_becomes_a_file(target: Target) -> None:
    """AppArmor lets libvirtd run no hook that is a link to another folder."""
    target.hook.symlink_to(ROOT / "hooks/qemu")
    target.install()
    assert not target.hook.is_symlink()
    assert not target.kept.exists()


def test_a_kept_hook_is_never_overwritten(target: Target) -> None:
    target.foreign(target.hook)
    target.foreign(target.kept, "#!/bin/sh\n")
    assert "qemu.kept already exists" in target.refuse()


def test_an_install_that_was_cut_off_after_keeping_the_hook(target: Target) -> None:
    target.foreign(target.hook)
    target.kept.hardlink_to(target.hook)
    target.install()
    assert target.kept.read_text() == FOREIGN
    target.library()


def test_a_foreign_command_is_not_overwritten(target: Target) -> None:
    target.foreign(target.command)
    assert "/usr/local/bin/vfio-hooks already exists" in target.refuse()


def test_a_dry_run_changes_nothing_and_tells_the_same(target: Target) -> None:
    target.foreign(target.hook)
    before = target.tree()
    told = target.install("--dry-run")
    assert target.tree() == before
    lines = target.install().splitlines()
    assert told.splitlines() == [f"would {line}" for line in lines]
    before = target.tree()
    told = target.install("--uninstall", "--dry-run")
    assert target.tree() == before
    lines = target.install("--uninstall").splitlines()
    assert told.splitlines() == [f"would {line}" for line in lines]


def test_a_dry_run_makes_not_even_the_folder(tmp_path: Path, small: Path) -> None:
    target = Target(tmp_path / "new", small)
    told = target.install("--dry-run")
    assert not target.root.exists()
    assert told.splitlines() == [f"would {line}" for line in target.install().splitlines()]


def test_an_upgrade_leaves_the_version_that_hooks_may_still_run(
    target: Target, checkout: Path
) -> None:
    upgrade = Target(target.root, checkout)
    upgrade.install()
    first = upgrade.library()
    errors = checkout / "vfio_hooks/errors.py"
    versions = []
    for number in range(2):
        errors.write_text(errors.read_text() + f"\n# {number}\n")
        upgrade.install()
        versions.append(upgrade.library())
    assert len({first, *versions}) == 3
    assert upgrade.versions() == sorted(versions)


def test_an_upgrade_leaves_the_version_that_a_running_vms_journal_names(
    target: Target, checkout: Path
) -> None:
    upgrade = Target(target.root, checkout)
    upgrade.install()
    first = upgrade.library()
    journal = target.root / "run/vfio-hooks/5f0c2a36-4be2-4ad0-9a4c-6e6f2b3f1d10.journal"
    journal.parent.mkdir(parents=True)
    journal.write_text(f'{{"do":["--setenv=PYTHONPATH=/usr/local/lib/vfio-hooks/{first}"]}}\n')
    errors = checkout / "vfio_hooks/errors.py"
    for number in range(2):
        errors.write_text(errors.read_text() + f"\n# {number}\n")
        upgrade.install()
        assert first in upgrade.versions()
    journal.unlink()
    errors.write_text(errors.read_text() + "\n# 2\n")
    upgrade.install()
    assert first not in upgrade.versions()


def test_an_upgrade_leaves_no_module_behind_that_is_gone(target: Target, checkout: Path) -> None:
    upgrade = Target(target.root, checkout)
    (checkout / "vfio_hooks/gone.py").write_text("")
    upgrade.install()
    (checkout / "vfio_hooks/gone.py").unlink()
    upgrade.install()
    assert not (upgrade.libraries / upgrade.library() / "vfio_hooks/gone.py").exists()


def other_pythons() -> list[str]:
    """Those on this machine that the installed package may be run with after an upgrade of the
    distribution, by the tag that they give their caches."""
    named = (shutil.which(f"python3.{minor}") for minor in range(11, 20))
    own = Path.home().glob(".pyenv/versions/*/bin/python3")
    ask = "import sys; print(sys.version_info >= (3, 11) and sys.implementation.cache_tag)"
    found: dict[str, str] = {}
    for path in ["/usr/bin/python3", *filter(None, named), *map(str, own)]:
        done = subprocess.run([path, "-IS", "-c", ask], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout != "False\n":
            found.setdefault(done.stdout, path)
    return list(found.values())[1:]


@pytest.mark.skipif(not can_seal(), reason="needs root and mount namespaces")
def test_an_upgrade_of_python_leaves_an_installation_that_works(memory: Path) -> None:
    """What is compiled is the old one's. A VM that runs meanwhile is undone by the new one."""
    pythons = other_pythons()
    if not pythons:
        pytest.skip("there is only one Python here")
    sealed, target = Sealed(gpu_host(memory)), Target(memory, ROOT)
    target.install()
    sealed.install(target.libraries / target.library())
    sealed.manage("win11")
    for python in pythons:
        old = sealed.hook("win11", "prepare", domain_xml())
        assert (old, len(sealed.journals())) == (Result(0, b"", ""), 1)
        new = (python, "-IS", "/etc/libvirt/hooks/qemu", "win11")
        assert sealed.run(*new, "release", "end", "-", stdin=domain_xml()) == Result(0, b"", "")
        assert not sealed.journals()
        start = sealed.run(*new, "prepare", "begin", "-", stdin=domain_xml())
        # The distribution brings lxml for its new Python; one of another origin may not have it.
        assert start.code == 0 or "lxml" in start.stderr
        assert start.stderr.count("\n") == start.code
        sealed.hook("win11", "release", domain_xml())


def test_a_damaged_package_is_mended(target: Target) -> None:
    target.install()
    package = target.libraries / target.library() / "vfio_hooks"
    (package / "dispatch.py").write_text("")
    (package / "errors.py").unlink()
    assert "install the package again" in target.install()
    for name in ("dispatch.py", "errors.py"):
        assert (package / name).read_bytes() == (target.source / "vfio_hooks" / name).read_bytes()
    (package.parent / "installer/hooks/qemu").unlink()
    assert "install the package again" in target.install()
    assert target.versions() == [target.library()]


def test_a_killed_install_leaves_nothing_for_good(target: Target) -> None:
    (target.libraries / ".new.Ab12Cd/vfio_hooks").mkdir(parents=True)
    target.install()
    assert target.versions() == [target.library()]


def test_uninstall_is_refused_while_a_vm_has_changed_the_host(target: Target) -> None:
    target.install()
    state = target.root / "run/vfio-hooks"
    state.mkdir(parents=True)
    (state / "lock").touch()
    (state / "idle/win11").mkdir(parents=True)
    (state / "idle/win11/start").touch()
    journal = state / "5f0c2a36-4be2-4ad0-9a4c-6e6f2b3f1d10.journal"
    journal.write_text('{"record":"begin","event":"prepare","vm":"win 11","number":1}\n')
    told = target.refuse("--uninstall")
    assert "'win 11'" in told
    assert "vfio-hooks undo 'win 11'" in told
    journal.unlink()
    target.install("--uninstall")
    assert not state.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--frobnicate"], "unknown option --frobnicate"),
        (["--destdir"], "--destdir needs"),
        (["--demo", "--dry-run"], "--demo has no --dry-run"),
        *((["--prefix", f"/opt/a{sign}b"], "--prefix: no blanks") for sign in " \t'\"|&\\"),
    ],
)
def test_a_wrong_command_line_is_refused(target: Target, options: list[str], said: str) -> None:
    assert said in target.refuse(*options)


def test_help_names_every_option(target: Target) -> None:
    told = target.install("--help")
    for option in ("--dry-run", "--destdir", "--uninstall", "--demo"):
        assert option in told
