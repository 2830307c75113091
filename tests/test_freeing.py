"""The advice about programs that have a device open, which depends on what they are."""

from pathlib import Path

import pytest

from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.freeing import how_to_free
from vfio_hooks.host.in_use import Holder
from vfio_hooks.knobs import not_in_use
from vfio_hooks.knobs.not_in_use import Freed

USERS = "0::/user.slice/user-1000.slice/user@1000.service/session.slice/kwin.service"
CASES = {
    "a desktop": (USERS, "/dev/dri/card1", "[display] in vm.toml"),
    "a game": (USERS, "/dev/dri/renderD128", "end it before the VM starts"),
    "a sound server": (USERS, "/dev/snd/controlC1", "end it before the VM starts"),
    "a program for lamps": (USERS, "/dev/i2c-7", 'in_use = "take"'),
    "a daemon": ("0::/system.slice/ollama.service", "/dev/nvidia0", 'unit = "ollama.service"'),
    "one of several": (
        "0::/system.slice/system-a.slice/a@b.service/sub",
        "/dev/nvme0",
        'unit = "a@b.service"',
    ),
    "a container": ("0::/system.slice/docker-12ab.scope", "/dev/nvidia0", "a container or a VM"),
    "another VM": ("0::/machine.slice/machine-qemu.scope", "/dev/vfio/1", "a container or a VM"),
    "of an old host": ("", "/dev/nvidia0", "end it before the VM starts"),
}


def a_host(folder: Path, groups: str) -> Host:
    (folder / "proc/77").mkdir(parents=True)
    (folder / "proc/77/cgroup").write_text(f"{groups}\n")
    return Host(str(folder))


@pytest.mark.parametrize(("groups", "file", "hint"), CASES.values(), ids=CASES)
def test_what_is_advised_does_no_harm(tmp_path: Path, groups: str, file: str, hint: str) -> None:
    """Unbinding a card, or its sound, while a program draws or plays crashes that, or hangs."""
    told = how_to_free(a_host(tmp_path, groups), [Holder(77, "x", file)])
    assert hint in told
    assert ("take" in told) == (hint == 'in_use = "take"')


def test_logind_is_not_to_be_stopped(tmp_path: Path) -> None:
    """It has the card open for each Wayland desktop, which would end with it."""
    host = a_host(tmp_path, "0::/system.slice/systemd-logind.service")
    card = "/dev/dri/card1"
    found = [Holder(77, "systemd-logind", card), Holder(78, "sway", card)]
    assert how_to_free(host, found).startswith("[display] in vm.toml makes a desktop")


@pytest.mark.parametrize("unit", ["lightdm.service", "display-manager.service"])
def test_a_display_manager_is_ended_by_its_own_table(tmp_path: Path, unit: str) -> None:
    """lightdm has the X server in its service, and on NixOS that has the general name."""
    host = a_host(tmp_path, f"0::/system.slice/{unit}")
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    (units / "display-manager.service").symlink_to("/usr/lib/systemd/system/lightdm.service")
    advice = how_to_free(host, [Holder(77, "Xorg", "/dev/dri/card1")])
    assert f"the display manager, {unit}: [display]" in advice and "[session] ends" in advice
    assert "[[service]]" not in advice


@pytest.mark.parametrize(
    ("groups", "file", "stays", "hint"),
    [
        (USERS, "/dev/dri/card0", False, 'leftovers = "end"'),
        (USERS, "/dev/dri/card0", True, "as the desktop stays, use [display] in vm.toml"),
        (USERS, "/dev/nvidia0", True, "end it before the VM starts"),
        ("0::/system.slice/ollama.service", "/dev/nvidia0", False, 'unit = "ollama.service"'),
    ],
)
def test_leftovers_are_ended_where_they_are_some(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    groups: str,
    file: str,
    stays: bool,
    hint: str,
) -> None:
    """A desktop that stays does not count, and services are never ended that way."""
    host = a_host(tmp_path, groups)
    monkeypatch.setattr(not_in_use, "holders_after", lambda *_: [Holder(77, "x", file)])
    with pytest.raises(HookError) as caught:
        Freed("0000:04:00.0", desktop_stays=stays).write(host, not_in_use.FREE)  # type: ignore[arg-type]
    assert hint in caught.value.hint
    assert ("leftovers" in caught.value.hint) == (hint == 'leftovers = "end"')
