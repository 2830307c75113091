"""packaging/switch, which the scripts of all packages call, sealed off; test_channels.py has it in
real packages."""

from pathlib import Path

import pytest

from tests.sealed import Result, Sealed, can_seal
from tests.test_install import BY_NUMBER, FOREIGN, OWN_LINES, VFIO_TOOLS

ROOT = Path(__file__).resolve().parents[1]
HELD = '{"record":"begin","event":"prepare","vm":"win11","number":1,"journal":1}\n'

pytestmark = [
    pytest.mark.real_processes,
    pytest.mark.skipif(not can_seal(), reason="needs root and mount namespaces"),
]


class Package:
    """A package that was unpacked, and whose scripts run now."""

    def __init__(self, folder: Path) -> None:
        self.host = Sealed(folder)
        self.hook = self.host.hooks / "qemu"
        self.hook.unlink()
        self.library = folder / "lib"
        modules = self.library / "1.0/vfio_hooks"
        modules.mkdir(parents=True)
        (modules / "__init__.py").touch()
        ours = f'LIBRARY = "{self.library}/1.0"\nfrom vfio_hooks.dispatch import main\n'
        (self.library / "hook").write_text(ours)
        text = (ROOT / "packaging/switch").read_text()
        (self.library / "switch").write_text(
            text.replace("library=/usr/lib/vfio-hooks", f"library={self.library}")
        )

    def switch(self, verb: str) -> Result:
        return self.host.run("sh", str(self.library / "switch"), verb)

    def hooks(self) -> dict[str, str]:
        return {
            path.name: path.read_text() for path in self.hook.parent.iterdir() if path.is_file()
        }


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return Package(tmp_path)


@pytest.mark.parametrize(
    ("text", "name"),
    [(FOREIGN, "qemu.kept"), (VFIO_TOOLS, "qemu.replaced"), (BY_NUMBER, "qemu.replaced")],
)
def test_a_hook_of_the_users_own_is_kept_and_comes_back(
    package: Package, text: str, name: str
) -> None:
    package.hook.write_text(text)
    ours = (package.library / "hook").read_text()
    for _ in "twice":
        assert package.switch("on").code == 0
        assert package.hooks() == {"qemu": ours, name: text}
    assert package.switch("off").code == 0
    assert package.hooks() == {"qemu": text}


@pytest.mark.parametrize("line", OWN_LINES)
@pytest.mark.parametrize("verb", ["check", "on"])
def test_lines_of_the_users_own_are_told_and_nothing_is_done(
    package: Package, verb: str, line: str
) -> None:
    text = f"{VFIO_TOOLS}{line}\n"
    package.hook.write_text(text)
    told = package.switch(verb)
    assert (told.code, line in told.stderr) == (1, True)
    assert package.hooks() == {"qemu": text}


def test_a_kept_hook_is_never_overwritten(package: Package) -> None:
    package.hook.write_text(FOREIGN)
    package.hook.with_suffix(".kept").write_text("older")
    told = package.switch("on")
    assert told.code == 1
    assert "qemu.kept already exists" in told.stderr
    assert package.hooks() == {"qemu": FOREIGN, "qemu.kept": "older"}


def test_the_hook_of_another_installation_is_left_alone(package: Package) -> None:
    theirs = 'LIBRARY = "/usr/local/lib/vfio-hooks/1"\nfrom vfio_hooks.dispatch import main\n'
    package.hook.write_text(theirs)
    for verb in ("off", "upgrade"):
        assert package.switch(verb).code == 0
        assert package.hooks() == {"qemu": theirs}


def test_between_two_versions_the_hook_has_a_copy(package: Package) -> None:
    package.switch("on")
    package.switch("upgrade")
    assert f'LIBRARY = "{package.library}/.previous"' in package.hook.read_text()
    assert (package.library / ".previous/vfio_hooks/__init__.py").exists()
    # The package manager has removed its own files of the old version, not the caches.
    (package.library / "1.0/vfio_hooks/__init__.py").unlink()
    package.switch("on")
    assert sorted(path.name for path in package.library.iterdir()) == ["hook", "switch"]


@pytest.mark.parametrize(("journal", "code"), [(HELD, 1), ("", 0), (HELD[:20], 0)])
def test_what_a_vm_still_needs_stays(package: Package, journal: str, code: int) -> None:
    package.host.state.mkdir()
    (package.host.state / "6b7b8a1e.journal").write_text(journal)
    told = package.switch("refuse")
    assert (told.code, "the VM 'win11'" in told.stderr) == (code, bool(code))
