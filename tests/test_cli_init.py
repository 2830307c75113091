"""`vfio-hooks init`: a vm.toml that is valid and suits, and pins, asked for and shown."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import UUID, Command
from tests.hosttree import add_pci, domain_xml
from tests.shapes import SHAPES
from vfio_hooks.cli import init, redefine, xml
from vfio_hooks.config import examine
from vfio_hooks.config.starter import choices
from vfio_hooks.domain import parse
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host, desktops
from vfio_hooks.host.in_use import Holder

VCPUS = "  <vcpu>4</vcpu>\n"
PINS = "".join(f"<vcpupin vcpu='{number}' cpuset='{number + 4}'/>" for number in range(4))
TUNED = f"{VCPUS}  <cputune>{PINS}</cputune>\n"
POOL = "sys/devices/system/node/node0/hugepages/hugepages-2048kB"
CARD = ("0000:04:00.0", "0000:04:00.1", "0000:04:00.2")
OTHER = "00000000-7c5e-4d0f-9a55-3f1d2a9a7c11"


@pytest.fixture
def laptop(command: Command) -> Command:
    """A host with cgroup v2, systemd and frequency control."""
    SHAPES["laptop"].write(command.host)
    policy = "sys/devices/system/cpu/cpufreq/policy0"
    for name, text in (
        ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu"),
        ("run/systemd/system/x", ""),
        ("proc/irq/default_smp_affinity", "ff"),
        ("proc/meminfo", "Hugepagesize: 2048 kB"),
        ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0"),
        (f"{POOL}/nr_hugepages", "0"),
        (f"{POOL}/free_hugepages", "0"),
        (f"{POOL}/surplus_hugepages", "0"),
        (f"{policy}/scaling_governor", "schedutil"),
        (f"{policy}/scaling_available_governors", "performance schedutil"),
        (f"{policy}/scaling_driver", "acpi-cpufreq"),
        (f"{policy}/affected_cpus", "0 1 2 3 4 5 6 7"),
        (f"{policy}/related_cpus", "0 1 2 3 4 5 6 7"),
        (f"{policy}/cpuinfo_min_freq", "1000000"),
        (f"{policy}/cpuinfo_max_freq", "4000000"),
    ):
        (command.host / name).parent.mkdir(parents=True, exist_ok=True)
        (command.host / name).write_text(text + "\n")
    command.hooks.chmod(0o755)
    (command.hooks / "qemu.d").chmod(0o755)
    return command


def tables(command: Command) -> list[str]:
    config, problems = examine(str(command.hooks), "win11")
    assert problems == []
    assert config
    return [table.name for table in config.tables]


START = """#!/bin/bash
systemctl stop display-manager
echo 2048 > /proc/sys/vm/nr_hugepages
systemctl set-property --runtime -- user.slice AllowedCPUs=0-3
"""


def test_what_a_script_does_is_left_to_it(laptop: Command) -> None:
    """And `plan` says so, if a table does it as well."""
    script = laptop.hooks / "qemu.d/win11/prepare/begin/start.sh"
    script.parent.mkdir(parents=True)
    script.write_text(START)
    script.chmod(0o755)
    memory = "<memory>4194304</memory><memoryBacking><hugepages/></memoryBacking>"
    domain = domain_xml(more=TUNED + memory, functions=CARD)
    result = laptop.here("init", "--xml", "-", stdin=domain)
    assert result.code == 0
    assert "; but start.sh:3 does that: vfio-hooks migrate win11" in result.err
    found = tables(laptop)
    assert not {"hugepages", "session", "cpus"} & set(found) and {"pci", "irqs"} <= set(found)
    (laptop.hooks / "qemu.d/win11/vm.toml").write_text("[hugepages]\n")
    planned = laptop.here("plan", "--xml", "-", stdin=domain)
    assert "note: hugepages: start.sh:3 does the same" in planned.out


@pytest.mark.parametrize(
    ("name", "file", "group", "chosen", "problem"),
    [
        ("sway", "/dev/dri/card1", "/user.slice/x", {"display"}, ""),
        ("gnome-shell", "/dev/dri/card1", "/user.slice/x", {"display"}, "vfio-hooks desktop win11"),
        ("firefox", "/dev/dri/card1", "/user.slice/x", set(), "close it before the VM starts"),
        ("ollama", "/dev/nvidia0", "/system.slice/ollama.service", {"service"}, ""),
    ],
)
def test_a_desktop_on_two_cards_gets_what_its_compositor_needs(
    laptop: Command,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    file: str,
    group: str,
    chosen: set[str],
    problem: str,
) -> None:
    add_pci(laptop.host, "0000:06:00.0", "i915", "9")
    (laptop.host / "proc/7").mkdir(parents=True)
    (laptop.host / "proc/7/cgroup").write_text(f"0::{group}\n")
    monkeypatch.setattr(desktops, "holders", lambda host, address: [Holder(7, name, file)])
    domain = parse(domain_xml(functions=CARD).encode())
    made = {one.table.strip("[]"): one for one in choices(domain, Host(str(laptop.host)))}
    assert {one for one in ("display", "service") if one in made and made[one].chosen} == chosen
    assert problem in " ".join(made["display"].problems)


@pytest.mark.parametrize(
    ("more", "functions", "expected"),
    [
        ("", (), ["governor"]),
        (VCPUS, ("0000:05:00.0",), ["governor", "inhibit", "pci"]),
        (VCPUS, CARD, ["governor", "gpu", "inhibit", "pci", "session"]),
        # Its other functions are left to the host, so [pci] would keep the VM from starting.
        (VCPUS, CARD[:1], ["governor", "gpu", "inhibit", "session"]),
        (TUNED, ("0000:05:00.0",), ["cpus", "governor", "inhibit", "irqs", "memory", "pci"]),
        (
            "<memory>4194304</memory><memoryBacking><hugepages/></memoryBacking>",
            (),
            ["governor", "hugepages"],
        ),
    ],
)
def test_only_tables_that_are_called_for(
    laptop: Command, more: str, functions: tuple[str, ...], expected: list[str]
) -> None:
    result = laptop.here("init", "--xml", "-", stdin=domain_xml(more=more, functions=functions))
    assert (result.code, result.out) == (0, "")
    assert "HOOKS/qemu.d/win11/vm.toml is written" in result.err
    assert sorted(tables(laptop)) == expected


def test_on_a_host_that_shows_nothing_the_file_is_valid(command: Command) -> None:
    for path in (command.hooks, command.hooks / "qemu.d"):
        path.chmod(0o755)
    result = command.here("init", "--xml", "-", stdin=domain_xml(more=TUNED))
    assert result.code == 0
    assert sorted(tables(command)) == ["gpu", "memory", "pci", "session"]
    assert "- [irqs] the host's interrupts are kept off CPUs 4-7; but with it the VM" in result.err
    assert "this host has no CPU frequency control" in result.err


def test_cgroups_of_the_first_version_are_cpusets_too(command: Command) -> None:
    for path in (command.hooks, command.hooks / "qemu.d"):
        path.chmod(0o755)
    SHAPES["laptop"].write(command.host)
    cpuset = command.host / "sys/fs/cgroup/cpuset"
    cpuset.mkdir(parents=True)
    (cpuset / "cpuset.cpus").write_text("0-7\n")
    result = command.here("init", "--xml", "-", stdin=domain_xml(more=TUNED))
    assert (
        "[cpus] its vCPUs are pinned to CPUs 4-7, and host programs are kept off these CPUs"
        in result.err
    )


MDEV = "9f1a0d5e-6a0c-4a3a-8c2a-f3f1b1c70d71"
SHMEM = "<devices><shmem name='looking-glass'><size unit='M'>64</size></shmem></devices>"


def test_what_is_shared_with_the_host_has_its_table(laptop: Command) -> None:
    usb = (
        "<hostdev type='usb'><source><vendor id='0x046d'/><product id='0xc52b'/></source></hostdev>"
    )
    xml = domain_xml(functions=()).replace("  </devices>", f"{SHMEM[9:-10]}{usb}</devices>")
    result = laptop.here("init", "--xml", "-", stdin=xml)
    assert "+ [[shm]] it shares /dev/shm/looking-glass" in result.err
    assert "- [[usb]] QEMU takes 046d:c52b from their drivers by itself" in result.err
    assert "shm" in tables(laptop)


def test_vfs_that_are_not_there_yet_are_made(laptop: Command) -> None:
    folder = laptop.host / "sys/bus/pci/devices/0000:05:00.0"
    for name, text in (("totalvfs", "4"), ("numvfs", "0"), ("offset", "16"), ("stride", "1")):
        (folder / f"sriov_{name}").write_text(f"{text}\n")
    result = laptop.here("init", "--xml", "-", stdin=domain_xml(functions=("0000:05:02.0",)))
    assert "+ [[sriov]] it makes 0000:05:02.0, which do not exist yet" in result.err


@pytest.mark.parametrize(
    ("types", "told"),
    [
        (["V5_4"], f"+ [[mdev]] it makes {MDEV}, which do not exist yet"),
        # A person has to choose.
        (["V5_4", "V5_8"], "several types to choose from: V5_4 (), V5_8 ()"),
    ],
)
def test_mediated_devices_that_are_not_there_yet_are_made(
    laptop: Command, types: list[str], told: str
) -> None:
    for name in types:
        folder = laptop.host / f"sys/class/mdev_bus/0000:00:02.0/mdev_supported_types/{name}"
        folder.mkdir(parents=True)
        (folder / "available_instances").write_text("1\n")
    source = f"<source><address uuid='{MDEV}'/></source>"
    hostdev = f"<hostdev mode='subsystem' type='mdev' model='vfio-pci'>{source}</hostdev>"
    xml = domain_xml(functions=()).replace("  </devices>", f"{hostdev}</devices>")
    result = laptop.here("init", "--xml", "-", stdin=xml)
    assert ("mdev" in tables(laptop)) == (len(types) == 1)
    assert told in " ".join(result.err.split())


def test_a_table_whose_plan_fails_is_a_comment_with_the_reason(laptop: Command) -> None:
    result = laptop.here("init", "--xml", "-", stdin=domain_xml(functions=CARD[:1]))
    text = (laptop.hooks / "qemu.d/win11/vm.toml").read_text()
    assert "\n# [pci]\n" in text
    assert "with it the VM would not start now" in " ".join(text.split("\n# "))
    assert '"bind"' in result.err
    plan = laptop.here("plan", "--xml", "-", stdin=domain_xml(functions=CARD[:1]))
    assert plan.code == 0


def test_a_desktop_on_another_card_goes_on(laptop: Command) -> None:
    add_pci(laptop.host, "0000:09:00.0", "i915", "9")
    result = laptop.here("init", "--xml", "-", stdin=domain_xml())
    assert "session" not in tables(laptop)
    assert "- [display] for a desktop with monitors on the passed card" in result.err
    assert "the host keeps 0000:09:00.0" in result.err


def test_nvidias_modules_are_unloaded_beside_a_desktop(laptop: Command) -> None:
    add_pci(laptop.host, "0000:09:00.0", "i915", "9")
    add_pci(laptop.host, "0000:0a:00.0", "nvidia", "10")
    xml = domain_xml(functions=("0000:0a:00.0",))
    words = "init", "--xml", "-", "--force"
    assert laptop.here(*words, stdin=xml).code == 0
    text = (laptop.hooks / "qemu.d/win11/vm.toml").read_text()
    assert '\n[session]\nmanager = "none"\n' in text
    # Where the desktop is on another card of nvidia's, they stay.
    add_pci(laptop.host, "0000:0b:00.0", "nvidia", "11")
    result = laptop.here(*words, stdin=xml)
    assert "session" not in tables(laptop)
    assert (
        "! [session] the VM's start would hang: sudo vfio-hooks check win11 says how"
    ) in result.err


def test_virtual_functions_are_told_of(laptop: Command) -> None:
    link = laptop.host / "sys/bus/pci/devices/0000:05:00.0/physfn"
    link.symlink_to("../0000:06:00.0")
    xml = domain_xml(functions=("0000:05:00.0",))
    assert laptop.here("init", "--xml", "-", stdin=xml).code == 0
    text = (laptop.hooks / "qemu.d/win11/vm.toml").read_text()
    assert "# For virtual functions (0000:05:00.0): a table makes them" in text
    assert "\n# [[sriov]]\n" in text


def test_a_shared_group_is_told_in_the_file(laptop: Command) -> None:
    add_pci(laptop.host, "0000:05:00.1", "e1000e", "7", "0x020000")
    xml = domain_xml(functions=("0000:04:00.0", "0000:04:00.1"))
    told = laptop.here("init", "--xml", "-", stdin=xml)
    assert told.code == 0
    for address, same in (("0000:04:00.2", " (same card)"), ("0000:05:00.1", "")):
        shares = f"! [pci] {address} shares an IOMMU group with these, and the host uses it: "
        assert f'{shares}add it to the VM{same}, or write group = "bind" into [pci]\n' in told.err
    text = (laptop.hooks / "qemu.d/win11/vm.toml").read_text()
    assert "# 0000:05:00.1 shares an IOMMU group with these, and the host uses it." in text
    assert '# group = "error"' in text


def test_nothing_is_overwritten_without_asking(
    laptop: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = laptop.manage("win11", "# mine\n")
    (tmp_path / "win11.xml").write_text(domain_xml())
    options = "--xml", str(tmp_path / "win11.xml")
    result = laptop.here("init", *options)
    assert (result.code, file.read_text()) == (1, "# mine\n")
    assert ("vm.toml exists: overwrite it? There is no terminal to ask on; add --yes") in result.err
    for answer, stays in ((False, True), (True, False)):
        monkeypatch.setattr(init, "ask", lambda question, answer=answer: answer)
        assert laptop.here("init", *options).code == 0
        assert (file.read_text() == "# mine\n") == stays
    file.write_text("# mine\n")
    assert laptop.here("init", *options, "--dry-run").code == 0
    assert file.read_text() == "# mine\n"
    assert laptop.here("init", *options, "--yes").code == 0
    assert "[pci]" in file.read_text()


def test_pins_of_a_file_are_printed_as_xml(laptop: Command) -> None:
    result = laptop.here("init", "--pins", "--xml", "-", stdin=domain_xml(more=VCPUS))
    assert result.code == 0
    told = parse(result.out.encode())
    assert told.vcpu_pins == {number: frozenset({number + 4}) for number in range(4)}
    assert "win11: 4 vCPUs to CPUs 4 5 6 7" in result.err
    assert "CPUs 0-1 stay with the host" in result.err
    assert "cpus" in tables(laptop)


def test_memory_on_another_node_is_told(command: Command) -> None:
    SHAPES["2 sockets"].write(command.host)
    for more, told in (
        ("", "its memory is on any node, and will be bound to node 1 with these pins"),
        ("<numatune><memory nodeset='0'/></numatune>", "its memory is on another node"),
        ("<numatune><memory nodeset='1'/></numatune>", ""),
    ):
        xml = domain_xml(more=VCPUS + more)
        result = command.here("init", "--pins", "--dry-run", "--xml", "-", stdin=xml)
        assert "4 vCPUs to CPUs 12 13 14 15" in result.err
        assert told in result.err
        assert bool(told) == ("its memory is" in result.err)
        added = [line for line in result.out.splitlines() if line.startswith("+")]
        assert bool(told) == any("strict" in line and "nodeset='1'" in line for line in added)
    xml = domain_xml(more=f"<memory unit='GiB'>15</memory>{VCPUS}")
    result = command.here("init", "--pins", "--dry-run", "--xml", "-", stdin=xml)
    assert "there is too little memory near these CPUs: 16 GiB in all" in result.err


def test_pins_leave_the_domain_whole(command: Command) -> None:
    """vCPUs that are off have none, and the cores that the guest sees fit the rest."""
    SHAPES["ryzen"].write(command.host)
    (command.host / "proc/cpuinfo").write_text("vendor_id : AuthenticAMD\nflags : topoext\n")
    vcpus = "<os><type arch='x86_64' machine='q35'>hvm</type></os><vcpu current='4'>8</vcpu>"
    cpu = "<cpu mode='host-passthrough'><topology sockets='8' cores='1' threads='1'/></cpu>"
    words = "init", "--pins", "--xml", "-", "--config-dir", str(command.hooks)
    new = command.here(*words, stdin=domain_xml(more=f"{vcpus}{cpu}")).out.replace('"', "'")
    assert new.count("<vcpupin") == 4
    assert "<topology sockets='1' cores='4' threads='2'/>" in new
    assert "<feature name='topoext' policy='require'/>" in new


def test_several_vms_are_told_apart(laptop: Command, tmp_path: Path) -> None:
    files = []
    for name, uuid, more in (("win11", UUID, "<vcpu>2</vcpu>"), ("linux", OTHER, TUNED)):
        (tmp_path / name).write_text(domain_xml(name, uuid, more=more))
        files += ["--xml", str(tmp_path / name)]
    result = laptop.here("init", "win11", "--pins", "--dry-run", *files)
    assert (result.code, result.out.count("vcpupin")) == (0, 2)
    assert "2 vCPUs to CPUs 2 3" in result.err
    assert "CPUs 4-7 belong to other VMs" in result.err
    result = laptop.here("init", "win11", "--pins", "--dry-run", "--share", *files)
    assert "2 vCPUs to CPUs 6 7" in result.err
    result = laptop.here("init", *files)
    assert (result.code, "which VM?" in result.err) == (1, True)
    (tmp_path / "win11").write_text(domain_xml(more="<vcpu>4</vcpu>"))
    result = laptop.here("init", "win11", "--pins", *files)
    assert (result.code, result.out) == (1, "")
    assert "win11 has 4 vCPUs, and only 2 CPUs are free for it" in result.err
    assert not (laptop.hooks / "qemu.d/win11").exists()


def test_the_plan_that_is_advised_is_of_the_file_that_was_written(
    laptop: Command, tmp_path: Path
) -> None:
    (laptop.host / "etc/libvirt/qemu").mkdir(parents=True)
    (laptop.host / "etc/libvirt/qemu/win11.xml").write_text(domain_xml())
    (tmp_path / "other.xml").write_text(domain_xml("it's other", OTHER))
    (tmp_path / "win11 new.xml").write_text(domain_xml())
    files = "--xml", str(tmp_path / "other.xml"), "--xml", str(tmp_path / "win11 new.xml")
    for argv in (["win11"], ["win11", *files], ["it's other", *files]):
        told = laptop.here("init", "--force", *argv).err.rpartition("see what it does: ")[2]
        for name, folder in (("HOST", laptop.host), ("HOOKS", laptop.hooks)):
            told = told.replace(name, str(folder))
        _, *advised = shlex.split(told)
        result = laptop(*advised, "--state-dir", str(laptop.state))
        assert (result.code, result.err) == (0, "")
        assert result.out.startswith(f"{argv[0]} (")


def test_a_folder_that_cannot_be_written_is_told(laptop: Command) -> None:
    (laptop.hooks / "qemu.d/win11").write_text("a file")
    result = laptop.here("init", "--xml", "-", stdin=domain_xml())
    assert result.code == 1
    assert "vm.toml: cannot be written:" in result.err


@pytest.fixture
def drivers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """libvirt's own driver for tests, with the one domain "test". It forgets what it was told
    when the last connection is closed."""
    libvirt = pytest.importorskip("libvirt")
    monkeypatch.setattr(redefine, "BACKUPS", str(tmp_path / "backups"))
    with libvirt.open("test:///default"):
        yield "test:///default"


def test_a_domain_is_defined_anew_after_a_yes(
    drivers: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    old = redefine.whole_xml("test", drivers)
    new = old.replace(b"</uuid>\n", b"</uuid>\n  <title>quick</title>\n")
    assert new != old
    monkeypatch.setattr(redefine, "ask", lambda question: False)
    assert not redefine.redefine("test", old, new, uri=drivers)
    assert redefine.whole_xml("test", drivers) == old
    monkeypatch.setattr(redefine, "ask", lambda question: True)
    assert redefine.redefine("test", old, new, uri=drivers)
    out = capsys.readouterr().out
    assert "</uuid>\n+  <title>quick</title>\n" in out
    assert redefine.whole_xml("test", drivers) == new
    (kept,) = (tmp_path / "backups").iterdir()
    assert (kept.read_bytes(), kept.stat().st_mode & 0o777) == (old, 0o600)
    with pytest.raises(HookError, match="changed by somebody else"):
        redefine.redefine("test", old, old + b"\n", yes=True, uri=drivers)
    with pytest.raises(HookError, match="libvirt at test:///default"):
        redefine.redefine("test", new, b"<domain/>", yes=True, uri=drivers)
    nonsense = new.replace(b"<title>", b"<nonsense/><title>")
    with pytest.raises(HookError, match="schema"):
        redefine.redefine("test", new, nonsense, yes=True, uri=drivers)
    assert redefine.whole_xml("test", drivers) == new
    assert redefine.redefine("test", new, new, uri=drivers)


@pytest.mark.parametrize(
    "more", ["<vcpu>4</vcpu>", TUNED, "<vcpu>4</vcpu><iothreads>2</iothreads>"]
)
def test_libvirt_accepts_what_is_written(drivers: str, laptop: Command, more: str) -> None:
    libvirt = pytest.importorskip("libvirt")
    old = domain_xml("pinned", more=f"<memory>65536</memory>{more}<os><type>hvm</type></os>")
    old = old.replace("type='kvm'", "type='test'")
    old = old.partition("<devices>")[0] + "<cpu mode='host-model'/></domain>"
    result = laptop.here("init", "--pins", "--xml", "-", stdin=old)
    assert result.code == 0
    with libvirt.open(drivers) as connection:
        defined = connection.defineXML(result.out)
        told = parse(defined.XMLDesc().encode())
        defined.undefine()
    assert (told.vcpu_pins, told.threads) == (parse(result.out.encode()).vcpu_pins, 2)
    assert len(told.iothread_pins) == more.count("<iothreads>") * 2


def test_a_password_is_not_lost(drivers: str) -> None:
    libvirt = pytest.importorskip("libvirt")
    text = (
        "<domain type='test'><name>a</name><memory>65536</memory><os><type>hvm</type></os>"
        "<devices><graphics type='vnc' passwd='quick'/></devices></domain>"
    )
    with libvirt.open(drivers) as connection:
        defined = connection.defineXML(text)
        try:
            assert "quick" not in defined.XMLDesc()
            assert b"passwd='quick'" in redefine.whole_xml("a", drivers)
        finally:
            defined.undefine()


def test_passwords_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    redefine.show_difference(b"<a passwd='secret'/>\n<b/>", b"<a passwd='secret'/>\n<c/>")
    out = capsys.readouterr().out
    assert "secret" not in out
    assert "-<b/>" in out


def test_libvirt_is_needed_without_a_file(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(uri: str) -> list[tuple[bytes, bool]]:
        raise HookError("libvirt at qemu:///system: no socket", "or give --xml FILE")

    monkeypatch.setattr(xml, "all_from_libvirt", refuse)
    result = command("init", "win11")
    assert (result.code, result.out) == (1, "")
    assert "no socket; or give --xml FILE\n" in result.err
