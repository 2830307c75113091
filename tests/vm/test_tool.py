"""The parts of the emulated host's tool that need no guest."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.vm import build, cache, cpufreq, identity, machine, qmp, saved, tools, versions
from tests.vm.domains import Domain, HostDevice
from tests.vm.hardware import GPU_GROUP, Hardware, Media, Topology, arguments
from tests.vm.image import Saved
from tests.vm.machine import CHECKOUT
from tests.vm.process import VmError, poll, run
from tests.vm.release import RELEASES, Release
from vfio_hooks.rehearse.compared import difference


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("VFIO_HOOKS_CACHE", str(tmp_path))
    return tmp_path


def test_each_release_has_an_image_of_its_own(own_cache: Path) -> None:
    """Named after the release and what goes into it."""
    folders = [build.folder(suite) for suite in RELEASES]
    assert len(set(folders)) == len(RELEASES)
    assert all(folder.parent == own_cache for folder in folders)


def test_a_finished_entry_replaces_older_ones(own_cache: Path) -> None:
    """And what a killed builder left is removed, but not another kind's."""
    for name in ("thing-old", "tmp.thing.dead", "other-old"):
        (own_cache / name).mkdir()
    with cache.new_entry("thing", own_cache / "thing-new") as work:
        (work / "file").touch()
    assert sorted(path.name for path in own_cache.iterdir()) == ["other-old", "thing-new"]


def test_a_cache_that_is_no_folder_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dangling link, say."""
    (tmp_path / "cache").symlink_to(tmp_path / "nowhere")
    monkeypatch.setenv("VFIO_HOOKS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(VmError, match=r"cannot use the cache .*cache: File exists"):
        cache.root()


def test_a_failed_build_leaves_nothing_and_keeps_the_old(own_cache: Path) -> None:
    """The entry that worked stays until there is a better one."""
    (own_cache / "thing-old").mkdir()
    with pytest.raises(RuntimeError), cache.new_entry("thing", own_cache / "thing-new"):
        raise RuntimeError("interrupted")
    assert [path.name for path in own_cache.iterdir()] == ["thing-old"]


@pytest.mark.parametrize(
    ("program", "missing"), [("mmdebstrap", "debian-archive-keyring"), ("ssh", None)]
)
def test_where_debians_keys_are_missing_they_are_installed(
    program: str, missing: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before mmdebstrap is run, which needs them. Where that fails, the line names them."""

    def refused(argv: Sequence[str], what: str, **_: object) -> str:
        raise VmError(f"cannot {what}: {argv[0]}")

    monkeypatch.setattr(tools, "KEYS", tmp_path / "keys.gpg")
    monkeypatch.setattr(tools, "run", refused)
    monkeypatch.setattr("shutil.which", lambda name, path: f"/usr/bin/{name}")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    if missing is None:
        tools.ensure(program)
        return
    with pytest.raises(VmError, match=f"only root can install it: run apt-get install {missing}"):
        tools.ensure(program)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(VmError, match="cannot read the package lists: apt-get"):
        tools.ensure(program)
    tools.KEYS.touch()
    tools.ensure(program)


def test_a_stale_process_number_kills_no_stranger() -> None:
    """The number is that of a live process, the start time another's."""
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        own = identity.start_time(stranger.pid)
        identity.kill(stranger.pid, own + "0")
        assert stranger.poll() is None
        identity.kill(stranger.pid, own)
        assert stranger.wait(timeout=10) == -9
    finally:
        stranger.kill()
        stranger.communicate()


def test_a_dead_machine_is_forgotten(own_cache: Path) -> None:
    """Its folder goes too, so that the next boot starts from nothing."""
    folder = machine.folder("gone")
    folder.mkdir(parents=True)
    record = (
        '{"name": "gone", "suite": "trixie", "image": "/nowhere", "port": 1, '
        f'"pid": {os.getpid()}, "started": "another boot 1"}}'
    )
    (folder / "machine.json").write_text(record, encoding="utf-8")
    assert machine.find("gone") is None
    assert not folder.exists()


def _media(source: Path) -> Media:
    return Media(
        kernel=Path("/kernel"),
        initrd=Path("/initrd"),
        disk=Path("/disk"),
        nvme=(Path("/nvme0"), Path("/nvme1")),
        acpi_table=Path("/table"),
        source=source,
    )


def test_more_cpus_mean_more_of_everything() -> None:
    """Nodes, memory and ACPI states follow the topology."""
    media = _media(Path("/source"))
    words = arguments(Hardware(Topology(cores=8)), media, Release("trixie"), port=1)
    assert "32,sockets=2,cores=8,threads=2" in words
    assert "node,nodeid=1,cpus=16-31,memdev=ram1" in words
    assert "External (\\_SB.CPUS.C01F, DeviceObj)" in cpufreq.source(32)


def test_a_comma_in_a_path_does_not_end_an_option() -> None:
    """QEMU takes a doubled one for one."""
    media = _media(Path("/with,comma"))
    words = arguments(Hardware(), media, Release("trixie"), port=1)
    assert any("path=/with,,comma," in word for word in words)


def test_a_saved_guest_goes_on_with_its_own_disk() -> None:
    """And no controller that cannot be saved is among its devices when it starts."""
    own = Saved(Path("/saved"))
    media = replace(_media(Path("/source")), disk=own.disk, memory=own.memory)
    line = " ".join(arguments(Hardware(), media, Release("trixie"), port=1))
    assert "file=/saved/disk.qcow2,format=qcow2,snapshot=on" in line
    assert line.endswith(" -incoming file:/saved/memory")
    assert "nvme,drive" not in line


@pytest.mark.parametrize("name", ["install.sh", "hooks/qemu", "vfio_hooks/engine/__init__.py"])
def test_another_package_is_another_saved_guest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A change to any file that is installed; one to a test is none."""
    for top in saved.INSTALLED:
        source, copy = CHECKOUT / top, tmp_path / top
        copy.parent.mkdir(exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
    before = saved.fingerprint()
    monkeypatch.setattr(saved, "CHECKOUT", tmp_path)
    assert saved.fingerprint() == before
    with (tmp_path / name).open("a") as file:
        file.write("# another version\n")
    assert saved.fingerprint() != before


def test_versions_that_moved_are_told_until_all_tests_pass_again(own_cache: Path) -> None:
    """Nothing is told before there was a good run."""
    now = own_cache / "booted-forky-1" / "versions"
    now.parent.mkdir()
    now.write_text("systemd 262-1\npython3 3.14.7\n")
    assert versions.changes("forky") == []
    versions.keep("forky")
    assert versions.changes("forky") == []
    now.write_text("systemd 263-1\nsway 1.12-1\n")
    moved = ["systemd 262-1 -> 263-1", "python3 3.14.7 -> absent", "sway absent -> 1.12-1"]
    assert versions.changes("forky") == moved
    versions.keep("forky")
    assert versions.changes("forky") == []


def test_qemu_s_refusal_is_told(tmp_path: Path) -> None:
    """An event may come before the answer."""
    answers = (
        b'{"return": {}}\n',
        b'{"event": "STOP"}\n{"error": {"desc": "no such device"}}\n',
    )
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "qmp"))
        server.listen()

        def serve() -> None:
            with server.accept()[0] as connection, connection.makefile("rb") as commands:
                connection.sendall(b'{"QMP": {}}\n')
                for answer in answers:
                    commands.readline()
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(VmError, match="QEMU refuses device_add: no such device"):
            qmp.ask(tmp_path, "device_add", driver="none")
        thread.join(10)


def test_a_domain_says_what_it_was_told() -> None:
    """All options at once make XML that parses."""
    domain = Domain(
        "a & b",
        devices=tuple(HostDevice(address, managed=False) for address in GPU_GROUP),
        vcpus=2,
        pins={0: "2", 1: "3"},
        emulator_pin="0-1",
        iothread_pins={1: "0"},
        nodes="1",
        hugepages=2048,
    )
    root = ElementTree.fromstring(domain.xml())
    assert root.findtext("name") == "a & b"
    assert [pin.get("cpuset") for pin in root.findall("cputune/vcpupin")] == ["2", "3"]
    functions = [node.get("function") for node in root.findall(".//hostdev/source/address")]
    assert functions == ["0x0", "0x1", "0x2"]
    assert {node.get("managed") for node in root.findall(".//hostdev")} == {"no"}


def test_an_address_that_is_none_is_refused() -> None:
    """Rather than that libvirt complains about the XML."""
    with pytest.raises(ValueError, match="not a PCI address"):
        HostDevice("04:00.0").xml()


def test_a_difference_reads_as_what_happened() -> None:
    """One line for each thing that changed, came or went."""
    before = {"a": "1", "b": "2", "gone": "3"}
    assert difference(before, {"a": "1", "b": "5", "new": "4"}) == [
        "b: '2' -> '5'",
        "gone: gone, was '3'",
        "new: new, '4'",
    ]


def test_failures_are_one_line() -> None:
    """What, on what, why."""
    with pytest.raises(VmError, match=r"cannot try: sh exited 3: no luck"):
        run(["sh", "-c", "echo no luck >&2; exit 3"], "try", timeout=10)
    with pytest.raises(VmError, match="program no-such-program is not installed"):
        run(["no-such-program"], "try", timeout=10)
    with pytest.raises(VmError, match="did not end within"):
        run(["sleep", "60"], "try", timeout=0.1)
    with pytest.raises(VmError, match="did not happen within"):
        poll(lambda: False, "it", deadline=0.05, every=0.01)
