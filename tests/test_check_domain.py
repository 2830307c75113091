"""What is found in a domain's XML: each rule with its defect, and silent without."""

from pathlib import Path

import pytest

from tests.defects import (
    ADDRESS,
    DEFECTS,
    DOMAINS,
    GOOD,
    LINUX,
    NO_BIT,
    NO_THREAD,
    OVERRIDE,
    SILENT,
    UNPINNED,
    Change,
    Defect,
    Edits,
    add,
    arguments,
    confined,
    edited,
    line,
    other,
    write,
)
from tests.hosttree import add_pci, guides_host
from tests.telling import compare, compare_names, named, told
from vfio_hooks.check import examine, rules
from vfio_hooks.check.domain.kind import hides_hypervisor
from vfio_hooks.check.fixing import mend
from vfio_hooks.check.rule import Area, Guest, Patient, Rule, Seen
from vfio_hooks.cli.domains import captured
from vfio_hooks.domain import parse
from vfio_hooks.domain.text import element
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.paths import Paths
from vfio_hooks.plugins import load

pytestmark = pytest.mark.real_processes
OURS: tuple[Rule, ...] = tuple(rule for rule in rules() if rule.area == "domain")
AREAS: tuple[Area, ...] = ("domain",)
# The lines of <hyperv> that the guide has although in its mode they have no effect.
GUIDE = (Path(__file__).parent / "guide/VFIO-NoHide.xml").read_text()
GUIDES_HYPERV = """<hyperv mode="passthrough">
      <relaxed state="on"/>
      <vapic state="on"/>
      <spinlocks state="on" retries="8191"/>
      <reset state="off"/>
      <vendor_id state="on" value="7ba845ec2647"/>
      <evmcs state="off"/>
    </hyperv>"""
GUIDE = GUIDE.replace('<hyperv mode="passthrough"/>', GUIDES_HYPERV)


def asked(
    root: Path, xml: str, tables: frozenset[str] = frozenset(), running: bool = False
) -> Patient:
    """A domain on the host that is the files below `root`."""
    guest = Guest(parse(xml.encode()), element(xml.encode()), running)
    others = tuple(one.domain for one in captured(Host(str(root))))
    return Patient(Host(str(root)), Paths(config=str(root)), guest, dict.fromkeys(tables), others)


def seen(
    root: Path, xml: str, tables: frozenset[str] = frozenset(), running: bool = False
) -> set[str]:
    """The names of the findings in a domain."""
    found = examine(asked(root, xml, tables, running), areas=AREAS)
    unseen = [one.seen.text for one in found if "could not be looked at" in one.seen.text]
    assert not unseen
    return {one.rule.name for one in found}


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """The guide's host, with all that the good domain wants."""
    root = guides_host(tmp_path)
    write("usr/share/vgabios/card.rom", "rom")(root)
    for node in (0, 1):
        pool = f"sys/devices/system/node/node{node}/hugepages/hugepages-2048kB"
        for name in ("nr", "free", "surplus"):
            write(f"{pool}/{name}_hugepages", "0" if name == "surplus" else "4096")(root)
    (root / "sys/kernel/mm/hugepages/hugepages-2048kB").mkdir(parents=True)
    return root


def test_a_good_domain_has_no_finding(host: Path) -> None:
    assert seen(host, GOOD) == set()


CASES = named(DEFECTS, [one[0] for one in DEFECTS])


@pytest.mark.parametrize(("name", "defect"), CASES, ids=[name for name, _ in CASES])
def test_a_defect_is_found(name: str, defect: Defect, host: Path) -> None:
    """With the words that people read, and the XML that its fix makes."""
    rule, edits, change = defect
    if change:
        change(host)
    xml = edited(edits)
    patient = asked(host, xml, running=rule in ("device-line-interrupt", "link-speed"))
    found = [one for one in examine(patient, areas=AREAS) if one.rule.name == rule]
    assert found
    assert not any("could not be looked at" in each.seen.text for each in found)
    after = mend(patient, xml.encode(), {one.name for one in OURS} - {rule}).after.decode()
    compare("domain", name, told(found, host, xml, after))


@pytest.mark.parametrize(
    ("name", "edits", "change", "tables"), SILENT, ids=[one[0] for one in SILENT]
)
def test_where_it_does_not_apply_a_rule_is_silent(
    name: str, edits: Edits, change: Change | None, tables: frozenset[str], host: Path
) -> None:
    if change:
        change(host)
    assert name not in seen(host, edited(edits), tables)


def test_every_rule_has_its_defect() -> None:
    """It is also silent about the good domain, which has a test above."""
    of_tables = {"device-reset-method", "sound-session", "xml-unknown"}
    of_tables |= {"machine-type-gone", "machine-type-old", "card-in-use"}
    assert {one[0] for one in DEFECTS} | of_tables == {rule.name for rule in OURS}
    assert {one[0] for one in SILENT} <= {rule.name for rule in OURS}
    compare_names("domain", [name for name, _ in CASES])


@pytest.mark.parametrize(
    ("words", "is_hidden"),
    [
        ("", False),
        ("hypervisor=off", True),
        ("hypervisor=off,hypervisor=on", False),
        ("hypervisor=on,hypervisor=off", True),
        ("hypervisor=on,-hypervisor", True),
        ("-hypervisor,hypervisor=on", True),
        ("+hypervisor,hypervisor=off", False),
        ("-hypervisor,+hypervisor", True),
        ("+hypervisor,-hypervisor", True),
    ],
)
def test_words_of_cpu_count_as_qemu_counts_them(words: str, is_hidden: bool) -> None:
    """As the property of the CPU was read in QEMU 10.0.13."""
    xml = edited(arguments("-cpu", f"host,{words}")).encode()
    assert hides_hypervisor(Guest(parse(xml), element(xml))) is is_hidden


@pytest.mark.parametrize(
    ("setting", "advised"),
    [
        ("x-igd-opregion=on", "name='x-igd-opregion' type='bool' value='true'/>"),
        ("x-pci-vendor-id=0x10de", "name='x-pci-vendor-id' type='unsigned' value='4318'/>"),
        ("bootindex=1", "name='bootindex' type='unsigned' value='1'/>"),
        ("host=01:00.0", "name='host' type='string' value='01:00.0'/>"),
    ],
)
def test_an_override_is_advised_in_libvirts_words(setting: str, advised: str, host: Path) -> None:
    """libvirt takes neither "0x10de" nor "on" there."""
    found = found_of("argument-set", host, arguments("-set", f"device.hostdev0.{setting}"))
    assert advised in found.do


def test_of_another_hypervisors_domain_only_that_is_said(host: Path) -> None:
    for kind in ("xen", "lxc", "bhyve", "vmware", "vz", "test", "hvf"):
        bad = edited((("type='kvm'", f"type='{kind}'"), *line("<memballoon"), *line("<direct")))
        assert seen(host, bad) == {"machine-hypervisor"}


def test_a_plain_vm_of_linux_is_left_in_peace(host: Path) -> None:
    """No passed device, no pins, no Windows: there is nothing to tune for passthrough."""
    plain = """<domain type='kvm'><name>web</name><uuid>0f3c7b52-6a7e-4a55-9d9c-2f6b1f0c9a12</uuid>
      <memory>1048576</memory><vcpu>4</vcpu>
      <os><type arch='x86_64' machine='pc-i440fx-2.1'>hvm</type></os>
      <devices><disk type='file'><source file='/a'/><target dev='hda' bus='ide'/></disk>
      <interface type='bridge'><source bridge='br0'/></interface></devices></domain>"""
    assert seen(host, plain) == set()


def test_the_guides_domain(host: Path) -> None:
    """Each is advice of one of the documents, or a slip that their author would mend: the pins
    are not what the guide itself says of pins."""
    assert seen(host, GUIDE) == {
        "pins-siblings",  # "pin a physical core and its hyperthreaded core together"
        "node-memory",  # "make sure your GPU is on the numa node of the CPU", the memory is not
        "memory-balloon",
        "pci-functions-apart",  # the forum: functions 0 and 1 of one slot
        "clock-hpet",  # the forum: -no-hpet
        "cpu-cache",  # "so that the L1 cache Windows thinks is there is accurate"
        "hyperv-passthrough",  # "makes the following lines less relevant"
        "disk-iothread",  # the third disk has none
        "disk-cache",
        "disk-discard",
        "extra-tablet",
        "extra-video",
        "machine-firmware-file",  # Arch has it elsewhere than this host
    }


def test_the_forum_threads_domain(host: Path) -> None:
    found = seen(host, (DOMAINS / "forum.xml").read_text())
    assert found == {
        "pins-none",  # "a script that pins the CPU threads": libvirt can do it
        "cpu-topoext",
        "cpu-hypervisor-off",  # so nothing of <hyperv> is used
        "disk-iothread",  # of the virtio-scsi controller
        "memory-locked",
        "device-rom-file",
        "machine-firmware-file",
    }
    # What the thread is about is right in it.
    assert not found & {"machine-q35", "pci-root-bus", "pci-functions-apart", "pci-multifunction"}


OLD = """<domain type='kvm'><name>old</name><uuid>0f3c7b52-6a7e-4a55-9d9c-2f6b1f0c9a13</uuid>
  <memory>1048576</memory><currentMemory>1048576</currentMemory><vcpu cpuset='1-2'>2</vcpu>
  <os><type arch='x86_64' machine='pc-0.12'>hvm</type><boot dev='hd'/></os>
  <features><acpi/><apic/><pae/></features><cpu match='exact'><model>core2duo</model></cpu>
  <clock offset='utc'/><on_poweroff>destroy</on_poweroff>
  <devices><emulator>/usr/bin/kvm</emulator>
  <disk type='block' device='disk'><source dev='/dev/vg/a'/><target dev='hda'/></disk>
  <hostdev mode='subsystem' type='pci'><source><address bus='0x45' slot='0x00' function='0x0'/>
  </source></hostdev><input type='mouse' bus='ps2'/><graphics type='vnc' port='-1'/>
  <video><model type='cirrus' vram='9216'/></video></devices></domain>"""


def test_a_domain_of_long_ago(host: Path) -> None:
    found = seen(host, OLD)
    assert {"machine-q35", "cpu-mode", "pins-wide", "disk-bus", "memory-balloon"} <= found


def test_an_old_machine_gets_no_root_port(host: Path) -> None:
    """The functions are apart, but no edit could help."""
    apart = f"{ADDRESS}'0x1'", ADDRESS.replace("0x01", "0x03") + "'0x0'"
    plain = edited(
        (apart, ("machine='q35'", "machine='pc'"), *line("<controller type='pci' index='0'"))
    )
    guest = Guest(parse(plain.encode()), element(plain.encode()))
    found = examine(Patient(Host(str(host)), Paths(config=str(host)), guest), areas=AREAS)
    (one,) = [one for one in found if one.rule.name == "pci-functions-apart"]
    assert not one.seen.edits


def found_of(name: str, host: Path, edits: Edits) -> Seen:
    xml = edited(edits).encode()
    others = tuple(one.domain for one in captured(Host(str(host))))
    guest = Guest(parse(xml), element(xml))
    patient = Patient(Host(str(host)), Paths(config=str(host)), guest, others=others)
    (one,) = [one for one in examine(patient, areas=AREAS) if one.rule.name == name]
    return one.seen


def test_a_rom_file_with_a_blank_is_told_to_apparmor_in_quotes(host: Path) -> None:
    """Without these the rules for all guests could not be read, and no VM would start."""
    confined("/usr/share/vgabios/** r,")(host)
    place = (("file='/usr/share/vgabios/card", "file='/opt/my card"),)
    (host / "opt/my card.rom").write_text("")
    assert found_of("device-rom-apparmor", host, place).do.endswith(
        "echo '  \"/opt/my card.rom\" r,' >> /etc/apparmor.d/local/abstractions/libvirt-qemu"
    )


def test_pins_are_those_that_init_chooses(host: Path) -> None:
    command = "sudo vfio-hooks init good --pins"
    vcpus = "12 28 13 29 14 30 15 31"
    told = f"{command}\nIt pins the vCPUs, in their order, to CPUs {vcpus}."
    assert found_of("pins-none", host, UNPINNED).advice == told
    many = (*UNPINNED, (">8</vcpu>", ">64</vcpu>"))
    told_many = found_of("pins-none", host, many)
    assert told_many.advice == "give it at most 30 vCPUs"
    assert told_many.text.startswith(
        "no vCPU is pinned, and good has 64 vCPUs, and only 30 CPUs are"
    )


def test_half_a_core_is_told_of_where_each_vcpu_has_its_cpu(host: Path) -> None:
    half = [("cpuset='27'", "cpuset='15'")]
    told = found_of("pins-half-core", host, half).text
    assert told == (
        "the vCPUs have CPUs 11,15 but not their SMT siblings 27,31, which the host uses"
    )
    unpinned = line("<vcpupin vcpu='7'")
    assert "pins-half-core" not in seen(host, edited(unpinned))


def test_a_driver_for_windows_is_for_windows(host: Path) -> None:
    slow = [("bus='virtio'", "bus='sata'"), ("<model type='virtio'/>", "<model type='e1000e'/>")]
    for edits, is_told in (((), True), (LINUX, False)):
        for name in ("disk-bus", "nic-model"):
            advice = found_of(name, host, [*slow, *edits]).advice
            assert ("In a Windows guest" in advice or "in a Windows guest" in advice) == is_told


def test_qemus_threads_keep_off_other_vms(host: Path) -> None:
    wanted = line("<emulatorpin")
    free = "<cputune><emulatorpin cpuset='{}'/></cputune>"
    assert found_of("pins-emulator", host, wanted).advice == free.format("12-15,28-31")
    moved = [(f"cpuset='{cpu}'", f"cpuset='{cpu + 4}'") for cpu in (8, 24, 9, 25, 10, 26)]
    other(*moved)(host)
    assert found_of("pins-emulator", host, wanted).advice == free.format("15,31")


def test_memory_that_does_not_fit_is_bound_to_no_node(host: Path) -> None:
    loose = r"/<numatune>(?s:.)*?</numatune>/", ""
    for size, is_bound in (((14 << 20) + 400000, True), ((14 << 20) + 500000, False)):
        memory = "<memory unit='KiB'>8388608", f"<memory unit='KiB'>{size}"
        seen = found_of("node-memory", host, (loose, memory))
        assert ("strict" in seen.advice, seen.is_fixable) == (is_bound, is_bound)


def test_a_captured_host_lacks_no_files(tmp_path: Path) -> None:
    """It has /sys and /proc only: that neither firmware nor ROM are there tells nothing."""
    root = guides_host(tmp_path)
    found = seen(root, (DOMAINS / "forum.xml").read_text())
    assert not found & {"machine-firmware-file", "device-rom-file"}


SESSION = "<audio id='1' type='pipewire'/>"


def test_what_vm_toml_has_to_do_with_the_domain(host: Path) -> None:
    """Each is found with one option of a table, and not with the other."""
    folder = "sys/bus/pci/devices/0000:45:00.0"
    write(f"{folder}/reset_method", "bus")(host)
    xml = edited(add("devices", SESSION)).encode()
    guest = Guest(parse(xml), element(xml))
    for name, table, wrong, right in (
        ("device-reset-method", "gpu", {"reset_method": "device_specific"}, {}),
        ("sound-session", "session", {}, {"manager": "none"}),
    ):
        for options, is_wrong in ((wrong, True), (right, False)):
            tables = {table: load(table).Options(**options)}
            patient = Patient(Host(str(host)), Paths(config=str(host)), guest, tables)
            found = {one.rule.name for one in examine(patient, areas=AREAS)}
            assert (name in found) == is_wrong


def test_a_host_that_shows_no_cpu_is_told_of_once(tmp_path: Path) -> None:
    xml = GOOD.encode()
    guest = Guest(parse(xml), element(xml))
    found = examine(Patient(Host(str(tmp_path)), Paths(config=str(tmp_path)), guest), areas=AREAS)
    unseen = [one.seen.text for one in found if "could not be looked at" in one.seen.text]
    assert len(unseen) == 1


MACHINES = """Supported machines are:
pc-q35-10.0          Standard PC (Q35 + ICH9, 2009)
pc-q35-7.0           Standard PC (Q35 + ICH9, 2009) (deprecated)
q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-10.0)
"""


@pytest.mark.parametrize(
    ("type_", "found"),
    [
        ("pc-q35-4.2", {"machine-type-gone"}),
        ("pc-q35-7.0", {"machine-type-old"}),
        ("pc-q35-10.0", set()),
        ("q35", set()),
    ],
)
def test_machine_types_of_this_hosts_qemu(
    type_: str, found: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = tmp_path / "qemu"
    emulator.write_text(f"#!/bin/sh\ncat <<'END'\n{MACHINES}END\n")
    emulator.chmod(0o755)
    more = (
        *add("devices", f"<emulator>{emulator}</emulator>"),
        ("machine='q35'", f"machine='{type_}'"),
    )
    xml = edited(more if type_ != "q35" else more[:1]).encode()
    guest = Guest(parse(xml), element(xml))
    patient = Patient(Host("/"), Paths(config=str(tmp_path)), guest)
    told = {one.rule.name for one in examine(patient, areas=AREAS)}
    assert {name for name in told if name.startswith("machine-type")} == found


def test_what_libvirts_schema_does_not_know_is_named(host: Path) -> None:
    for path in ("usr/bin/virt-xml-validate", "usr/share/libvirt/schemas"):
        (host / path).parent.mkdir(parents=True, exist_ok=True)
    (host / "usr/bin/virt-xml-validate").write_text("")
    (host / "usr/share/libvirt/schemas").symlink_to("/usr/share/libvirt/schemas")
    assert "xml-unknown" not in seen(host, GOOD)
    for edits, places in (
        ((("<acpi/>", "<acpi/><acpy/>"),), "<features><acpy>"),
        (
            (
                ("<acpi/>", "<acpi/><acpy/><apyc/>"),
                ("<target dev='vda'", "<nonsense/><target dev='vda'"),
            ),
            "<features><acpy>, <features><apyc>, <devices><disk><nonsense>",
        ),
    ):
        assert found_of("xml-unknown", host, edits).text.endswith(f" what is in {places}")


@pytest.mark.parametrize("text", ["", "no XML", "<network/>", "<domain type='kvm'/>"])
def test_what_is_no_domain(text: str) -> None:
    with pytest.raises(HookError):
        parse(text.encode())


def test_what_sits_at_a_moved_cards_address_is_named(host: Path) -> None:
    """A disk controller has the card's address now, and has one function only."""
    devices = host / "sys/bus/pci/devices"
    for number in range(4):
        (devices / f"0000:45:00.{number}").rename(devices / f"0000:46:00.{number}")
    add_pci(host, "0000:45:00.0", "ahci", "45", "0x010601", "1022:7901")
    seen = found_of("device-absent", host, ())
    assert seen.text == (
        "this host has no device 0000:45:00.1, and 0000:45:00.0 is a SATA device (1022:7901)"
    )
    assert seen.do.endswith("This host's graphics cards: 0000:46:00.0")
    (devices / "0000:45:00.0/class").write_text("0x030000\n")
    told = found_of("device-absent", host, ())
    assert told.text == "this host has no device 0000:45:00.1"
    assert "graphics" not in told.do


def test_an_image_that_starts_the_guest_is_not_told_to_discard(host: Path) -> None:
    loose = ("discard='unmap'", ""), (" cache='none' io='native'", "")
    assert "vda" in found_of("disk-discard", host, loose).text
    for image in ("OpenCore-v21.qcow2", "BaseSystem.img", "Clover.img", "win11.iso"):
        disk = f"<disk type='file' device='disk'><source file='/vm/{image}'/>"
        more = "<memballoon", f"{disk}<target dev='sdq' bus='sata'/></disk><memballoon"
        for name in ("disk-discard", "disk-cache"):
            assert "sdq" not in found_of(name, host, (*loose, more)).text
    cloud = "<disk type='file' device='disk'><source file='/vm/noCloud.iso'/>"
    more = "<memballoon", f"{cloud}<target dev='vdq' bus='virtio'/></disk><memballoon"
    assert (
        "vdq"
        not in found_of("disk-iothread", host, (*NO_THREAD, (" iothread='1'/>", "/>"), more)).text
    )


def test_a_guest_that_must_not_see_a_vm_gets_no_virtio(host: Path) -> None:
    slow = [("bus='virtio'", "bus='sata'"), ("<model type='virtio'/>", "<model type='e1000e'/>")]
    hidden = [(old, new.replace("hv_relaxed", "-hypervisor")) for old, new in OVERRIDE]
    for edits, is_told in ((slow, True), ([*slow, *NO_BIT], False), ([*slow, *hidden], False)):
        found = seen(host, edited(edits))
        assert ({"disk-bus", "nic-model"} <= found) == is_told
        assert bool({"disk-bus", "nic-model"} & found) == is_told
