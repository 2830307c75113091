"""How programs let go of a graphics card, and what has a desktop never open one."""

import getpass
import os
import pwd
from pathlib import Path

import pytest

from tests.command import Command
from tests.fakes.logind import add_program, add_session
from tests.hosttree import add_pci, domain_xml
from tests.patient import grow, patient
from vfio_hooks.check.domain import holders
from vfio_hooks.cli import desktop_files
from vfio_hooks.cli.desktop_files import (
    Setting,
    is_in_force,
    is_written,
    remove,
    settings,
    write,
    written,
)
from vfio_hooks.domain import Domain, PciFunction
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host, WritableHost, desktops
from vfio_hooks.host.desktops import COMPOSITORS, rungs
from vfio_hooks.host.in_use import Holder, told
from vfio_hooks.host.sessions import choose

pytestmark = pytest.mark.real_processes
PASSED, KEPT = "0000:0b:00.0", "0000:09:00.0"
ME = getpass.getuser()
UID = pwd.getpwnam(ME).pw_uid
DOMAIN = Domain("win11", "-", pci=(PciFunction(PASSED, True, "hostdev"),))
CARD, NVIDIA = "/dev/dri/card1", "/dev/nvidia0"
USERS = "/home/me/.config/environment.d/72-vfio-hooks.conf"
RULES = "/etc/udev/rules.d/72-vfio-hooks.rules"
XORG = "/etc/X11/xorg.conf.d/72-vfio-hooks.conf"
LINK = "/dev/dri/vfio-hooks-0000-09-00-0"
MESA = "__EGL_VENDOR_LIBRARY_FILENAMES=/usr/share/glvnd/egl_vendor.d/50_mesa.json"
MARK = "# Written by vfio-hooks desktop, which takes it back with --remove.\n"
MESA_VARIABLE = dict([MESA.split("=")])


def in_group(root: Path, pid: int, group: str) -> None:
    (root / f"proc/{pid}").mkdir(parents=True)
    (root / f"proc/{pid}/cgroup").write_text(f"0::{group}\n")


@pytest.mark.parametrize(
    ("name", "file", "group", "number", "words"),
    [
        ("kwin_wayland", CARD, "/user.slice/x", 1, "it closes the card when [display]"),
        # A display manager may have the X server in its own service.
        ("Xorg", CARD, "/system.slice/lightdm.service", 1, "it closes the card when [display]"),
        ("gnome-shell", CARD, "/user.slice/x", 2, "udev's tag mutter-device-ignore"),
        ("mutter", CARD, "/user.slice/x", 2, "udev's tag mutter-device-ignore"),
        ("niri", CARD, "/user.slice/x", 2, "ignore-drm-device"),
        ("sway", NVIDIA, "/user.slice/x", 3, 'restart = "without-card"'),
        ("firefox", CARD, "/user.slice/x", 3, "close it before the VM starts"),
        ("ollama", NVIDIA, "/system.slice/ollama.service", 4, '"ollama.service" stops it'),
        # Its login screen is a program of its own.
        ("sddm-greeter", CARD, "/system.slice/sddm.service", 3, "sddm.service: [session] ends it"),
    ],
)
def test_the_rung_of_each_program(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    file: str,
    group: str,
    number: int,
    words: str,
) -> None:
    in_group(tmp_path, 7, group)
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    (units / "display-manager.service").symlink_to("/usr/lib/systemd/system/sddm.service")
    found = [Holder(7, name, CARD), Holder(7, name, file)]
    monkeypatch.setattr(desktops, "holders", lambda host, address: found)
    (rung,) = rungs(Host(str(tmp_path)), PASSED)
    assert (rung.number, rung.holder.file) == (number, file)
    assert words in rung.text and str(rung).startswith(f"{name} (pid 7) has {file} open: ")


def test_a_vm_that_has_the_card_is_not_to_be_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [Holder(7, "qemu-system-x86", "/dev/vfio/15")]
    monkeypatch.setattr(desktops, "holders", lambda host, address: found)
    (rung,) = rungs(Host(str(tmp_path)), PASSED)
    assert (rung.number, rung.text) == (3, "a VM has the card, and gives it back when it ends")


@pytest.mark.parametrize(
    ("pid", "name", "group"),
    [
        (6, "systemd-logind", "/system.slice/systemd-logind.service"),
        (6, "elogind-daemon", "/elogind"),
        (6, "seatd", "/system.slice/seatd.service"),
        # It keeps what logind has open.
        (1, "systemd", "/init.scope"),
    ],
)
def test_who_opened_the_card_for_a_desktop_closes_it_with_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: int, name: str, group: str
) -> None:
    """If logind were stopped, the session would end, and with it the desktop."""
    in_group(tmp_path, pid, group)
    in_group(tmp_path, 7, "/user.slice/x")
    found = [Holder(pid, name, CARD), Holder(7, "sway", CARD)]
    monkeypatch.setattr(desktops, "holders", lambda host, address: found)
    assert [rung.holder.name for rung in rungs(Host(str(tmp_path)), PASSED)] == ["sway"]
    assert told(found) == f"sway (pid 7) has {CARD} open"
    assert told(found[:1]) == f"{name} (pid {pid}) has {CARD} open"


def test_gnome_that_is_told_already_takes_a_new_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = a_desktop(tmp_path, "gnome-shell")
    monkeypatch.setattr(desktops, "holders", lambda *_: [Holder(700, "gnome-shell", CARD)])
    (before,) = rungs(host, PASSED)
    for one in settings(host, DOMAIN, choose(host)):
        write(Tree(str(tmp_path)), one)
    (after,) = rungs(host, PASSED)
    assert (before.number, after.number) == (2, 2)
    assert "must be configured before login to leave the card alone" in before.text
    assert before.advice("a b") == f"{before.text}; vfio-hooks desktop 'a b' shows how"
    assert after.advice("a b") == after.text
    assert after.text.endswith(f"({RULES}), from the next login on")
    # Nobody but mutter reads that tag.
    monkeypatch.setattr(desktops, "holders", lambda *_: [Holder(700, "niri", CARD)])
    assert not rungs(host, PASSED)[0].is_told


@pytest.mark.parametrize(
    ("program", "written", "started_with", "number", "words"),
    [
        ("sway", False, {}, 3, "nvidia's driver lets no running program go"),
        ("sway", True, {}, 2, f"leave the card alone ({USERS}), from the next login on"),
        ("sway", True, MESA_VARIABLE, 3, "it uses nvidia's driver in spite of __EGL_VENDOR"),
        ("Xorg", False, {}, 3, "nvidia's driver lets no running program go"),
        ("Xorg", True, {}, 2, f"leave the card alone ({XORG}), from the next login on"),
    ],
)
def test_a_setting_for_nvidia_s_driver_takes_a_new_login(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    written: bool,
    started_with: dict[str, str],
    number: int,
    words: str,
) -> None:
    host = a_desktop(tmp_path, program, ids="10de:2204")
    add_program(tmp_path, 700, uid=UID, WAYLAND_DISPLAY="wayland-1", **started_with)
    held = [Holder(700, program, CARD), Holder(700, program, NVIDIA)]
    monkeypatch.setattr(desktops, "holders", lambda *_: held)
    for one in settings(host, DOMAIN, choose(host)) if written else ():
        write(Tree(str(tmp_path)), one)
    (rung,) = rungs(host, PASSED)
    assert rung.number == number and words in rung.advice("win11")
    assert rung.is_told == (number == 2)


def test_what_a_user_puts_in_the_place_of_a_setting_is_not_waited_for(tmp_path: Path) -> None:
    fifo = tmp_path / USERS[1:]
    fifo.parent.mkdir(parents=True)
    os.mkfifo(fifo)
    assert not is_written(Host(str(tmp_path)), Setting(USERS, "x", ME))
    with pytest.raises(HookError, match="exists, and vfio-hooks did not write it; move it away"):
        write(Tree(str(tmp_path)), Setting(USERS, "x", ME))


@pytest.mark.parametrize(
    ("environment", "in_force"),
    [
        ({}, False),
        ({"KWIN_DRM_DEVICES": "/dev/dri/card0"}, False),
        ({"KWIN_DRM_DEVICES": "/dev/dri/vfio-hooks-0000-09-00-0"}, True),
    ],
)
def test_whether_the_running_desktop_has_the_setting(
    tmp_path: Path, environment: dict[str, str], in_force: bool
) -> None:
    host = a_desktop(tmp_path, "kwin_wayland")
    text = "".join(f"{name}={value}\0" for name, value in {"HOME": "/", **environment}.items())
    (tmp_path / "proc/700/environ").write_text(text)
    _, variables = settings(host, DOMAIN, choose(host))
    assert is_in_force(host, choose(host), variables, [PASSED]) == in_force


@pytest.mark.parametrize(
    ("program", "is_lent", "in_force"),
    [("gnome-shell", False, False), ("steam", False, True), ("qemu-system-x86", True, False)],
)
def test_whether_gnome_has_the_setting_is_seen_by_what_it_has_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, is_lent: bool, in_force: bool
) -> None:
    """For a card that a VM has, nobody knows."""
    host = a_desktop(tmp_path, "gnome-shell")
    if not is_lent:
        (tmp_path / f"sys/bus/pci/devices/{PASSED}/drm/card1").mkdir(parents=True)
    monkeypatch.setattr(desktop_files, "holders", lambda *_: [Holder(700, program, CARD)])
    (rules,) = settings(host, DOMAIN, choose(host))
    assert is_in_force(host, choose(host), rules, [PASSED]) == in_force


@pytest.mark.parametrize(
    ("tables", "running", "seen"),
    [("", False, 1), ("display", False, 0), ("session", False, 0), ("", True, 0)],
)
def test_check_tells_who_has_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: str, running: bool, seen: int
) -> None:
    add_pci(tmp_path, PASSED, "amdgpu")
    in_group(tmp_path, 7, "/user.slice/x")
    monkeypatch.setattr(desktops, "holders", lambda host, address: [Holder(7, "sway", CARD)])
    whole = patient(tmp_path, domain_xml(functions=(PASSED,)), tables)
    assert whole.guest is not None
    guest = type(whole.guest)(whole.guest.domain, whole.guest.xml, running)
    found = list(holders.in_use.look(type(whole)(whole.host, whole.paths, guest, whole.tables)))
    assert len(found) == seen
    assert all(one.text == f"{PASSED}: sway (pid 7) has {CARD} open" for one in found)


def a_desktop(root: Path, program: str, kept: str = "amdgpu", ids: str = "1002:73bf") -> Host:
    add_pci(root, PASSED, "vfio-pci", ids=ids)
    add_pci(root, KEPT, kept, "2")
    kind = "x11" if program == "Xorg" else "wayland"
    add_session(root, "2", ME, str(UID), TYPE=kind)
    add_program(root, 700, uid=UID, WAYLAND_DISPLAY="wayland-1")
    (root / "proc/700/comm").write_text(f"{program}\n")
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text(f"{ME}:x:{UID}:{UID}::/home/me:/bin/sh\n")
    (root / "etc/group").write_text("")
    return Host(str(root))


@pytest.mark.parametrize(
    ("program", "ids", "expected"),
    [
        ("gnome-shell", "1002:73bf", {RULES: f'"{PASSED}", TAG+="mutter-device-ignore"'}),
        ("mutter", "1002:73bf", {RULES: f'"{PASSED}", TAG+="mutter-device-ignore"'}),
        ("gnome-shell", "10de:2204", {RULES: "mutter-device-ignore", USERS: MESA}),
        ("Xorg", "1002:73bf", {XORG: '"AutoAddGPU" "false"'}),
        (
            "kwin_wayland",
            "1002:73bf",
            {
                RULES: f'KERNELS=="{KEPT}", SYMLINK+="{LINK[5:]}"',
                USERS: f"KWIN_DRM_DEVICES={LINK}\n",
            },
        ),
        ("sway", "10de:2204", {RULES: LINK[5:], USERS: f"WLR_DRM_DEVICES={LINK}\n{MESA}\n"}),
        ("Hyprland", "1002:73bf", {RULES: LINK[5:], USERS: f"AQ_DRM_DEVICES={LINK}\n"}),
    ],
)
def test_what_has_a_desktop_never_open_the_card(
    tmp_path: Path, program: str, ids: str, expected: dict[str, str]
) -> None:
    host = a_desktop(tmp_path, program, ids=ids)
    found = settings(host, DOMAIN, choose(host))
    assert [one.path for one in found] == list(expected)
    for one in found:
        assert expected[one.path] in one.text
        assert one.user == (ME if one.path == USERS else "")
        # These variables are lists, and a colon would begin another card.
        listed = [line for line in one.text.splitlines() if "_DEVICES=" in line]
        assert not any(":" in line for line in listed)


@pytest.mark.parametrize(
    ("program", "kept", "words"),
    [
        ("niri", "amdgpu", 'ignore-drm-device "/dev/dri/by-path/pci-0000:0b:00.0-card" }'),
        ("weston", "amdgpu", "its compositor is not one that vfio-hooks knows"),
        ("gnome-shell", "vfio-pci", "the host has no graphics card besides those of win11"),
    ],
)
def test_what_is_not_written(tmp_path: Path, program: str, kept: str, words: str) -> None:
    host = a_desktop(tmp_path, program, kept)
    with pytest.raises(HookError) as caught:
        settings(host, DOMAIN, choose(host))
    assert words in str(caught.value)


class Tree(WritableHost):
    """Files below a root, but commands of this machine."""

    def run(self, argv: list[str], seconds: float = 30) -> str:
        return Host("/").show(argv, seconds)


def test_a_setting_is_written_and_taken_back(tmp_path: Path) -> None:
    host = Tree(str(tmp_path))
    text = f"{MARK}A='b c'\n"
    for one in (Setting("/etc/x/a.rules", text), Setting("/home/me/.config/e/a.conf", text, ME)):
        assert not is_written(host, one)
        write(host, one)
        write(host, one)
        assert is_written(host, one) and (tmp_path / one.path[1:]).read_text() == text
        assert remove(host, one) and not remove(host, one)
        (tmp_path / one.path[1:]).write_text("somebody's own\n")
        with pytest.raises(
            HookError, match="exists, and vfio-hooks did not write it; move it away"
        ):
            write(host, one)
        assert not remove(host, one) and (tmp_path / one.path[1:]).exists()


def test_the_command_shows_what_would_be_written(command: Command) -> None:
    a_desktop(command.host, "kwin_wayland")
    words = ["desktop", "--xml", "-", "--root", str(command.host)]
    xml = domain_xml(functions=(PASSED,))
    result = command(*words, stdin=xml)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[0].endswith("(wayland, active) is drawn by kwin_wayland")
    assert f"{USERS} would have:" in result.out
    # The host of the command's tests has one more card.
    (line,) = [line for line in result.out.splitlines() if "KWIN_DRM_DEVICES=" in line]
    assert LINK in line.partition("=")[2].split(":")
    refused = command(*words, "--write", "--yes", stdin=xml)
    assert refused.code == 1 and "a setting can only be written on this host" in refused.err
    none = command(*words, stdin=domain_xml(functions=()))
    assert "is given no graphics card of this host" in none.err


def test_a_setting_that_keeps_the_desktop_from_starting_is_found(tmp_path: Path) -> None:
    grow(
        tmp_path,
        {
            "etc/passwd": "a:x:1000:1000::/home/a:/bin/sh\nb:x:1001:1001::/home/b:/bin/sh\n"
            "nobody:x:65534:65534::/nonexistent:/bin/false",
            "etc/group": "",
            RULES[1:]: MARK,
            XORG[1:]: "somebody's own",
            USERS[1:].replace("/me/", "/b/"): f"{MARK}KWIN_DRM_DEVICES={LINK}",
        },
    )
    host = Host(str(tmp_path))
    own = USERS.replace("/me/", "/b/")
    assert [(one.path, one.user) for one in written(host)] == [(RULES, ""), (own, "b")]
    assert [one.path for one in written(host, "a")] == [RULES]
    grow(tmp_path, {USERS[1:].replace("/me/", "/a/"): MARK})
    with pytest.raises(HookError, match="several users have such a setting: a, b; choose one with"):
        written(host)
    assert [one.user for one in written(host, "b")] == ["", "b"]
    # The card links in these rules are named in the setting of the other user.
    grow(tmp_path, {RULES[1:]: f'{MARK}SYMLINK+="dri/vfio-hooks-0000-09-00-0"'})
    assert [one.user for one in written(host, "b")] == ["b"]


def test_without_a_desktop_the_hint_is_about_this_verb(command: Command) -> None:
    words = ["desktop", "--xml", "-", "--root", str(command.host)]
    xml = domain_xml(functions=("0000:04:00.0",))
    add_pci(command.host, KEPT, "amdgpu", "2")
    assert command(*words, stdin=xml).err.endswith("; log in on the desktop first\n")
    add_session(command.host, "2", "a", "1000", TYPE="wayland")
    add_session(command.host, "3", "b", "1001", TYPE="wayland")
    assert command(*words, stdin=xml).err.endswith("; choose one with --user\n")
    assert "there is: session 2 of a" in command(*words, "--user", "c", stdin=xml).err


def test_names_are_what_the_kernel_shows_of_them() -> None:
    assert all(len(name) <= 15 for name in COMPOSITORS)
