"""Who else could have written what root obeys."""

import errno
import os
import stat
import subprocess
from pathlib import Path

import pytest
from pyfakefs.fake_filesystem import FakeFilesystem

from vfio_hooks.config import examine, home
from vfio_hooks.config.trust import trusted
from vfio_hooks.errors import HookError, unreadable

pytestmark = pytest.mark.real_processes
NOBODY = 65534


@pytest.fixture
def hooks(tmp_path: Path) -> Path:
    """A hooks folder with one managed VM, as it should be."""
    own_folder = tmp_path / "hooks/qemu.d/win10"
    own_folder.mkdir(parents=True, mode=0o755)
    (own_folder / "vm.toml").write_text("[pci]\n")
    (tmp_path / "hooks/vfio-hooks.toml").write_text("[pci]\n")
    return tmp_path / "hooks"


def refusals(hooks: Path) -> list[str]:
    _, problems = examine(str(hooks), "win10")
    return [str(problem).replace(str(hooks), "HOOKS") for problem in problems]


def test_what_only_root_can_write_is_trusted(hooks: Path) -> None:
    assert refusals(hooks) == []


CHAIN = ["", "/qemu.d", "/qemu.d/win10", "/qemu.d/win10/vm.toml", "/vfio-hooks.toml"]


@pytest.mark.parametrize("bits", [0o020, 0o002])
@pytest.mark.parametrize("name", CHAIN)
def test_what_others_may_write_is_refused_by_name(hooks: Path, name: str, bits: int) -> None:
    target = Path(f"{hooks}{name}")
    target.chmod(target.stat().st_mode | bits)
    told = f"HOOKS{name}: users other than its owner may write to it; look at what is in it, then: "
    assert refusals(hooks) == [f"{told}chmod go-w HOOKS{name}"]


@pytest.mark.parametrize("mode", [0o755, 0o775, 0o757, 0o1755, 0o1775, 0o1777])
@pytest.mark.parametrize("owner", [0, os.geteuid(), NOBODY])
@pytest.mark.parametrize("name", ["", "/qemu.d", "/qemu.d/win10", "/qemu.d/win10/vm.toml"])
def test_every_owner_and_mode(fs: FakeFilesystem, name: str, owner: int, mode: int) -> None:
    """At the real places, and without being root: every folder on the way counts."""
    hooks = "/etc/libvirt/hooks"
    file = f"{hooks}/qemu.d/win10/vm.toml"
    fs.create_file(file, st_mode=stat.S_IFREG | 0o644)
    for folder in (hooks, f"{hooks}/qemu.d", f"{hooks}/qemu.d/win10"):
        os.chmod(folder, 0o755)
    os.chmod(f"{hooks}{name}", mode)
    os.chown(f"{hooks}{name}", owner, 0)
    replaceable = mode & 0o022 and not (mode & 0o1000 and name != "/qemu.d/win10/vm.toml")
    if owner != NOBODY and not replaceable:
        trusted(file, hooks)
        return
    why = (
        f"belongs to user {NOBODY}, not to root"
        if owner == NOBODY
        else ("users other than its owner")
    )
    with pytest.raises(HookError, match=f"^{hooks}{name}: {why}"):
        trusted(file, hooks)


def test_a_link_to_another_vms_folder_is_followed(hooks: Path) -> None:
    (hooks / "qemu.d/win11").symlink_to("win10")
    assert examine(str(hooks), "win11")[1] == []
    (hooks / "qemu.d/win10/vm.toml").chmod(0o666)
    with pytest.raises(HookError, match=r"win10/vm\.toml: users"):
        trusted(f"{hooks}/qemu.d/win11/vm.toml", str(hooks))


def test_a_vm_may_have_the_file_of_another(hooks: Path) -> None:
    own = hooks / "qemu.d/win11/vm.toml"
    own.parent.mkdir()
    own.symlink_to("../win10/vm.toml")
    config, problems = examine(str(hooks), "win11")
    assert config and [table.name for table in config.tables] == ["pci"] and not problems
    (hooks / "qemu.d/win10").chmod(0o777)
    assert ("win10: users other than its owner may write to it") in str(
        examine(str(hooks), "win11")[1]
    )


def test_a_link_is_as_good_as_all_that_it_leads_through(hooks: Path, tmp_path: Path) -> None:
    open_folder = tmp_path / "open"
    (open_folder / "win11").mkdir(parents=True)
    (hooks / "qemu.d/win11").symlink_to(open_folder / "win11")
    trusted(f"{hooks}/qemu.d/win11", str(hooks))
    open_folder.chmod(0o777)
    with pytest.raises(HookError, match=f"^{open_folder}: users"):
        trusted(f"{hooks}/qemu.d/win11", str(hooks))
    # Nobody but its owner can move a folder away from a sticky one.
    open_folder.chmod(0o1777)
    trusted(f"{hooks}/qemu.d/win11", str(hooks))


def test_a_file_in_somebody_s_home_is_to_be_copied(hooks: Path, tmp_path: Path) -> None:
    """To have root own what the link leads through would lock that user out."""
    home = tmp_path / "home/alice"
    (home / "hooks").mkdir(parents=True)
    (home / "hooks/start.sh").write_text("#!/bin/sh\n")
    script = hooks / "qemu.d/win10/start.sh"
    script.symlink_to(home / "hooks/start.sh")
    home.chmod(0o777)
    with pytest.raises(HookError) as caught:
        trusted(str(script), str(hooks))
    assert caught.value.problem.startswith(f"{home}: users other than its owner")
    for what in ("chown", "chmod", f" {home}"):
        assert what not in caught.value.hint
    subprocess.run(caught.value.hint.partition("root: ")[2], shell=True, check=True, umask=0o022)
    assert script.read_text() == "#!/bin/sh\n"
    trusted(str(script), str(hooks))


def test_a_link_in_between_is_looked_at_too(hooks: Path, tmp_path: Path) -> None:
    """Whoever can write where the second link lies can lead the first one elsewhere."""
    between = tmp_path / "between"
    between.mkdir()
    (between / "link").symlink_to(hooks / "qemu.d/win10")
    (hooks / "qemu.d/win11").symlink_to("../../between/link")
    trusted(f"{hooks}/qemu.d/win11/vm.toml", str(hooks))
    between.chmod(0o775)
    with pytest.raises(HookError, match=f"^{between}: users"):
        trusted(f"{hooks}/qemu.d/win11/vm.toml", str(hooks))


def test_links_in_a_circle_end(hooks: Path) -> None:
    (hooks / "qemu.d/win11").symlink_to("win12")
    (hooks / "qemu.d/win12").symlink_to("win11")
    with pytest.raises(HookError, match="too many symbolic links"):
        trusted(f"{hooks}/qemu.d/win11", str(hooks))
    with pytest.raises(HookError, match="cannot be read: Too many levels"):
        home(str(hooks), "win11")


@pytest.mark.parametrize(("user", "advice"), [(1000, "; try again with sudo"), (0, "")])
def test_what_only_root_can_read(monkeypatch: pytest.MonkeyPatch, user: int, advice: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    error = unreadable("vm.toml", PermissionError(errno.EACCES, "Permission denied"))
    assert str(error) == f"vm.toml: cannot be read: Permission denied{advice}"


def test_what_is_not_there_is_said(hooks: Path) -> None:
    with pytest.raises(HookError, match="x: cannot be read: No such file or directory"):
        trusted(f"{hooks}/qemu.d/x", str(hooks))
