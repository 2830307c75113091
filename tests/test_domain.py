"""What is read of a domain's XML, most of it as libvirt's own formatter writes it."""

from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vfio_hooks.domain import Domain, HugePages, PciFunction, guarded, identify, parse
from vfio_hooks.domain.devices import MemoryDevice
from vfio_hooks.domain.tree import LARGEST
from vfio_hooks.errors import HookError, Unread
from vfio_hooks.host.cpulist import format_list
from vfio_hooks.record import fields

libvirt = pytest.importorskip("libvirt")

UUID = "6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c11"
GUIDE = f"""
<domain type='test'>
  <name>win11</name>
  <uuid>{UUID.upper()}</uuid>
  <title>not the &lt;name&gt;</title>
  <metadata><x:a xmlns:x='urn:x'><name>neither</name><uuid>{UUID[::-1]}</uuid></x:a></metadata>
  <memory unit='GiB'>16</memory>
  <vcpu placement='static' current='4'>8</vcpu>
  <iothreads>2</iothreads>
  <cputune>
    <vcpupin vcpu='0' cpuset='2,4-7,^5'/>
    <vcpupin vcpu='3' cpuset='3'/>
    <emulatorpin cpuset='0-1'/>
    <iothreadpin iothread='2' cpuset='8'/>
  </cputune>
  <numatune>
    <memory mode='interleave' nodeset='0-1'/>
  </numatune>
  <memoryBacking>
    <hugepages><page size='1' unit='G' nodeset='0'/><page size='2048' nodeset='1'/></hugepages>
  </memoryBacking>
  <os><type>hvm</type></os>
  <cpu>
    <numa>
      <cell id='0' cpus='0-3' memory='12' unit='GiB'/>
      <cell id='1' cpus='4-7' memory='4194304'/>
    </numa>
  </cpu>
  <devices>
    <hostdev mode='subsystem' type='pci' managed='yes'>
      <source><address domain='0x0000' bus='0x04' slot='0x00' function='0x1'/></source>
    </hostdev>
    <hostdev mode='subsystem' type='pci'>
      <source><address domain='65536' bus='254' slot='31' function='7'/></source>
    </hostdev>
    <hostdev mode='subsystem' type='usb' managed='yes'>
      <source><vendor id='0x1'/><product id='0x2'/></source>
    </hostdev>
    <interface type='hostdev' managed='yes'>
      <source><address type='pci' domain='0' bus='7' slot='0x10' function='1'/></source>
    </interface>
    <interface type='network'><source network='default'/></interface>
    <disk type='nvme' device='disk'>
      <driver name='qemu' type='raw'/>
      <source type='pci' managed='no' namespace='1'>
        <address domain='0' bus='1' slot='0' function='0'/>
      </source>
      <target dev='vda' bus='virtio'/>
    </disk>
  </devices>
</domain>
"""


@pytest.fixture(scope="module")
def connection() -> Iterator[Any]:
    """libvirt's test driver: real parsing and formatting, and no daemon."""
    libvirt.registerErrorHandler(lambda *_: None, None)
    with libvirt.open("test:///default") as opened:
        yield opened


def formatted(connection: Any, xml: str) -> bytes:
    """The XML as libvirt writes it."""
    domain = connection.defineXML(xml)
    text: str = domain.XMLDesc(0)
    domain.undefine()
    return text.encode()


def test_a_vcpu_that_is_off_has_its_pin() -> None:
    """`virsh setvcpus` may add it later, and libvirt tells no hook of that."""
    pins = "<vcpupin vcpu='0' cpuset='2'/><vcpupin vcpu='1' cpuset='3'/>"
    xml = f"<domain><name>a</name><vcpu current='1'>2</vcpu><cputune>{pins}</cputune></domain>"
    domain = parse(xml.encode())
    assert domain.pinned == {2, 3}
    assert domain.idle_vcpus == {1}


def test_all_that_libvirt_writes_is_read(connection: Any) -> None:
    domain = parse(formatted(connection, GUIDE))
    assert (domain.name, domain.uuid) == ("win11", UUID)
    assert (domain.memory, domain.vcpus) == (16 << 20, 8)
    assert domain.vcpu_pins == {0: {2, 4, 6, 7}, 3: {3}}
    assert domain.pinned == {2, 3, 4, 6, 7}
    assert domain.emulator_pin == frozenset({0, 1})
    assert domain.iothread_pins == {2: {8}}
    assert (domain.numa_mode, domain.numa_nodes) == ("interleave", frozenset({0, 1}))
    assert domain.cell_memory == {0: 12 << 20, 1: 4 << 20}
    assert domain.cell_vcpus == {0: {0, 1, 2, 3}, 1: {4, 5, 6, 7}}
    assert domain.hugepages == (
        HugePages(1 << 20, frozenset({0})),
        HugePages(2048, frozenset({1})),
    )
    assert sorted(domain.pci, key=lambda function: function.address) == [
        PciFunction("0000:01:00.0", False, "disk"),
        PciFunction("0000:04:00.1", True, "hostdev"),
        PciFunction("0000:07:10.1", True, "interface"),
        PciFunction("10000:fe:1f.7", False, "hostdev"),
    ]


TUNE = """<cputune><vcpupin vcpu='1' cpuset='2'/><emulatorpin cpuset='0'/>
<iothreadpin iothread='1' cpuset='1'/></cputune>"""


@pytest.mark.parametrize(
    ("vcpu", "tune", "pins"),
    [
        ("cpuset='4-7'", "", ({0: "4-7", 1: "4-7"}, "4-7", {1: "4-7", 2: "4-7"})),
        ("cpuset='4-7'", TUNE, ({0: "4-7", 1: "2"}, "0", {1: "1", 2: "4-7"})),
        ("cpuset='4-7' placement='auto'", TUNE, ({1: "2"}, "0", {1: "1"})),
        ("", TUNE, ({1: "2"}, "0", {1: "1"})),
    ],
)
def test_threads_without_a_pin_have_the_cpus_of_vcpu(
    connection: Any, vcpu: str, tune: str, pins: tuple[dict[int, str], str, dict[int, str]]
) -> None:
    xml = f"""<domain type='test'><name>a</name><uuid>{UUID}</uuid><memory>9</memory>
        <vcpu {vcpu}>2</vcpu><iothreads>2</iothreads>{tune}<os><type>hvm</type></os></domain>"""
    domain = parse(formatted(connection, xml))
    told = [
        {n: format_list(cpus) for n, cpus in sorted(found.items())}
        for found in (domain.vcpu_pins, domain.iothread_pins)
    ]
    assert (told[0], format_list(domain.emulator_pin or ()), told[1]) == pins


MEMORY = f"""
<domain type='test'><name>a</name><uuid>{UUID}</uuid>
  <maxMemory slots='8' unit='GiB'>64</maxMemory><memory unit='GiB'>14</memory>
  <os><type>hvm</type></os>
  <cpu><numa><cell id='0' cpus='0' memory='8' unit='GiB'/></numa></cpu>
  <devices>
    <memory model='dimm'>
      <source><pagesize unit='MiB'>2</pagesize><nodemask>0-1</nodemask></source>
      <target><size unit='GiB'>4</size><node>0</node></target>
    </memory>
    <memory model='nvdimm'>
      <source><path>/tmp/nvdimm</path></source>
      <target><size unit='GiB'>1</size><node>0</node></target>
    </memory>
    <memory model='virtio-mem'>
      <target>
        <size unit='GiB'>1</size><node>0</node>
        <block unit='MiB'>2</block><requested unit='MiB'>512</requested>
      </target>
    </memory>
  </devices>
</domain>
"""


def test_memory_devices(connection: Any) -> None:
    domain = parse(formatted(connection, MEMORY))
    assert (domain.memory, domain.cell_memory) == (14 << 20, {0: 8 << 20})
    assert domain.memory_devices == (
        MemoryDevice(4 << 20, 0, 2048, frozenset({0, 1})),
        MemoryDevice(512 << 10, 0),
    )


def test_a_domain_that_asks_for_nothing(connection: Any) -> None:
    xml = "<domain type='test'><name>a</name><memory>9</memory><os><type>hvm</type></os></domain>"
    domain = parse(formatted(connection, xml))
    assert (domain.memory, domain.vcpus, domain.pinned, domain.pci) == (9, 1, frozenset(), ())
    assert (domain.vcpu_pins, domain.emulator_pin, domain.iothread_pins) == ({}, None, {})
    assert (domain.numa_mode, domain.numa_nodes, domain.hugepages) == (None, None, None)


NAMES = st.text(
    st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/") | st.just("\t"),
    min_size=1,
    max_size=40,
)


@settings(max_examples=150)
@given(name=NAMES | st.sampled_from(["&amp;lt;", "<name>", "</name><uuid>", "]]>", "..", "-"]))
def test_the_name_is_found_without_an_xml_library_as_with_one(connection: Any, name: str) -> None:
    xml = f"""<domain type='test'><name>{escape(name)}</name><uuid>{UUID}</uuid>
        <memory>1000</memory><os><type>hvm</type></os></domain>"""
    try:
        written = formatted(connection, xml)
    except libvirt.libvirtError:
        assume(False)
    domain = parse(written)
    assert identify(written) == (domain.name, domain.uuid) == (name, UUID)


def test_the_guides_domain_is_identified(connection: Any) -> None:
    assert identify(formatted(connection, GUIDE)) == ("win11", UUID)


@pytest.mark.parametrize(
    "xml",
    [
        b"",
        b"\xff\xfe",
        b"<network><name>a</name></network>",
        b"<domain><name>a</name></domain>",
        b"<domain><name>a</name><uuid>short</uuid></domain>",
        b"<domain><metadata><name>a</name><uuid>" + UUID.encode() + b"</uuid></metadata></domain>",
    ],
)
def test_what_has_no_identity(xml: bytes) -> None:
    assert identify(xml) is None


def wrapped(inside: str) -> bytes:
    return f"<domain><name>a</name><uuid>{UUID}</uuid>{inside}</domain>".encode()


def device(inside: str) -> bytes:
    return wrapped(f"<devices>{inside}</devices>")


@pytest.mark.parametrize(
    ("memory", "kibibytes"),
    [
        ("<memory>5</memory>", 5),
        ("<memory unit='b'>1025</memory>", 2),
        ("<memory unit='KB'>1024</memory>", 1000),
        ("<memory unit='MiB'> 3\n</memory>", 3072),
        ("<memory unit='GB'>1</memory>", 976563),
        ("<memory unit='T'>1</memory>", 1 << 30),
        ("<memory unit='byte'>1024</memory>", 1),
        ("<memory unit='PiB'>1</memory>", 1 << 40),
        ("<memory/>", 0),
        ("", 0),
    ],
)
def test_memory_in_all_units(memory: str, kibibytes: int) -> None:
    assert parse(wrapped(memory)).memory == kibibytes


@pytest.mark.parametrize(
    ("attributes", "address"),
    [
        ("domain='0x0000' bus='0x0a' slot='0x1f' function='0x7'", "0000:0a:1f.7"),
        ("domain='0' bus='10' slot='31' function='7'", "0000:0a:1f.7"),
        ("bus='012' slot='00' function='0'", "0000:0a:00.0"),
        ("bus='0X0A'", "0000:0a:00.0"),
    ],
)
def test_numbers_are_read_as_libvirt_reads_them(attributes: str, address: str) -> None:
    xml = device(
        f"<hostdev mode='subsystem' type='pci'><source><address {attributes}/></source></hostdev>"
    )
    # Without managed= it is not.
    assert parse(xml).pci == (PciFunction(address, False, "hostdev"),)


def test_the_variant_driver_of_a_function() -> None:
    xml = device(
        "<hostdev type='pci' managed='no'><driver name='vfio' model='mlx5_vfio_pci'/>"
        "<source><address bus='4'/></source></hostdev>"
    )
    assert parse(xml).pci == (PciFunction("0000:04:00.0", False, "hostdev", "mlx5_vfio_pci"),)


def test_an_nvme_disk_below_another_disk_is_given_to_the_domain_too() -> None:
    xml = device(
        "<disk type='file'><source file='/overlay'/><backingStore type='nvme'>"
        "<source type='pci' managed='yes' namespace='1'><address bus='2'/></source>"
        "</backingStore></disk>"
    )
    assert parse(xml).pci == (PciFunction("0000:02:00.0", True, "disk"),)


def test_huge_pages_without_a_size_are_the_hosts_default() -> None:
    xml = wrapped("<memoryBacking><hugepages/></memoryBacking>")
    assert parse(xml).hugepages == (HugePages(None, None),)


def test_the_host_nodes_of_guest_nodes() -> None:
    xml = wrapped("<numatune><memnode cellid='1' mode='strict' nodeset='0,2-3'/></numatune>")
    assert parse(xml).cell_nodes == {1: {0, 2, 3}}


def test_a_uuid_is_the_same_in_upper_case() -> None:
    xml = f"<domain><name>a</name><uuid>{UUID.upper()}</uuid></domain>".encode()
    assert identify(xml) == ("a", UUID)
    assert parse(xml.replace(b"<uuid>", b"<uuid>\n ")).uuid == UUID


def test_comments_are_nothing() -> None:
    xml = wrapped("<!-- <memory>1</memory> --><memory><!-- 3 -->4</memory>")
    assert parse(b"<!-- made by hand -->" + xml).memory == 4


WRONG = {
    "nothing": (b"", "the domain XML cannot be read: "),
    "no XML": (b"name: a", "the domain XML cannot be read: "),
    "half of it": (wrapped("")[:-3], "the domain XML cannot be read: "),
    "something else": (b"<network/>", "the XML is a <network>, not a <domain>"),
    "no name": (b"<domain/>", "the domain XML has no <name>; virsh dumpxml writes one"),
    "a document type": (
        b"<!DOCTYPE domain [<!ENTITY x 'y'>]>" + wrapped("<title>&x;</title>"),
        "the domain XML has a document type; libvirt never writes one",
    ),
    "an entity bomb": (
        b"<!DOCTYPE domain [<!ENTITY a 'aaaaaaaaaa'>"
        + b"".join(b"<!ENTITY %c '%s'>" % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(20))
        + b"]>"
        + wrapped("<title>&u;</title>"),
        "the domain XML ",
    ),
    "too much": (b" " * (LARGEST + 1), "the domain XML is larger than 16 MiB"),
    "an unknown unit": (
        wrapped("<memory unit='ZiB'>1</memory>"),
        "the XML of domain a: unit 'ZiB' of <memory> is not known",
    ),
    "a wrong CPU list": (
        wrapped("<cputune><vcpupin vcpu='0' cpuset='a'/></cputune>"),
        "the XML of domain a: 'a' is not a CPU list like 0-3,8",
    ),
    "vCPUs without end": (
        wrapped(f"<vcpu>{10**30}</vcpu>"),
        f"the XML of domain a: <vcpu> is {10**30}",
    ),
    "fewer I/O threads than none": (
        wrapped("<iothreads>-1</iothreads>"),
        "the XML of domain a: <iothreads> is -1",
    ),
    "no address": (
        device("<hostdev type='pci'><source/></hostdev>"),
        "the XML of domain a: a PCI <hostdev> without <source><address>",
    ),
    "no octal number": (
        device("<hostdev type='pci'><source><address bus='08'/></source></hostdev>"),
        "the XML of domain a: the address of a PCI <hostdev>: '08' is not a number",
    ),
}


def everything(domain: Domain) -> None:
    """Ask a domain for all that it has."""
    for part in fields(domain):
        getattr(domain, part.name)


@pytest.mark.parametrize(("xml", "message"), WRONG.values(), ids=WRONG)
def test_one_clear_line_for(xml: bytes, message: str) -> None:
    with pytest.raises(HookError) as raised:
        everything(guarded(parse(xml)))
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_a_file_that_the_xml_names_is_not_read(tmp_path: Any) -> None:
    secret = tmp_path / "secret"
    secret.write_text("<secret/>")
    xml = f"<!DOCTYPE d [<!ENTITY x SYSTEM 'file://{secret}'>]>".encode() + wrapped("&x;")
    with pytest.raises(HookError) as raised:
        parse(xml)
    assert "secret" not in str(raised.value)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_are_more_than_a_failure(xml: bytes) -> None:
    identify(xml)
    with pytest.raises(HookError):
        parse(xml)


KVMFR = (
    "{'qom-type':'memory-backend-file','id':'looking-glass',"
    "'mem-path':'/dev/kvmfr0','size':33554432,'share':true}"
)


@pytest.mark.parametrize(
    ("value", "shared"),
    [
        (KVMFR, [("/dev/kvmfr0", 32 << 20)]),
        (KVMFR.replace("'", '"'), [("/dev/kvmfr0", 32 << 20)]),
        (KVMFR.replace("looking-glass", r"it\'s \"new\""), [("/dev/kvmfr0", 32 << 20)]),
        (KVMFR.replace("'looking-glass'", '"it\'s"'), [("/dev/kvmfr0", 32 << 20)]),
        ("{'driver':'ivshmem-plain','memdev':'looking-glass'}", []),
        ("{'driver': no JSON at all", []),
        ("[1]", []),
        ("guest=win11,debug-threads=on", []),
    ],
)
def test_qemus_arguments_in_its_own_json(value: str, shared: list[tuple[str, int]]) -> None:
    domain = parse(with_argument(value))
    assert [(one.path, one.size) for one in domain.shared] == shared
    assert not domain.unread


def with_argument(value: str) -> bytes:
    return (
        f"<domain xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><name>a</name>"
        f"<q:commandline><q:arg value={quoteattr(value)}/></q:commandline></domain>"
    ).encode()


UNREADABLE = {
    "pci": "<devices><hostdev type='pci'/></devices>",
    "usb": "<devices><hostdev type='usb'><source><address bus='x'/></source></hostdev></devices>",
    "shared": "<devices><shmem name='a'><size unit='parsec'>1</size></shmem></devices>",
    "memory": "<memory unit='parsec'>1</memory>",
    "vcpu_pins": "<cputune><vcpupin vcpu='0' cpuset='most'/></cputune>",
    "hugepages": "<memoryBacking><hugepages><page size='big'/></hugepages></memoryBacking>",
}


@pytest.mark.parametrize("part", UNREADABLE)
def test_what_cannot_be_read_is_told_to_whom_it_concerns(part: str) -> None:
    """Everything else is read: something new in libvirt or QEMU must not stop a VM."""
    xml = f"<domain><name>a</name><vcpu>3</vcpu>{UNREADABLE[part]}</domain>"
    domain = parse(xml.encode())
    assert list(domain.unread) == [part]
    strict = guarded(domain)
    assert (strict.name, strict.vcpus, strict.uuid) == ("a", 3, domain.uuid)
    with pytest.raises(Unread, match="the XML of domain a: "):
        getattr(strict, part)


def test_a_domain_that_has_no_uuid_yet() -> None:
    """As `virsh define` takes it. Two such domains are not the same one."""
    first, second = (parse(f"<domain><name>{name}</name></domain>".encode()) for name in "ab")
    assert first.uuid != second.uuid
    assert first == parse(b"<domain><name>a</name></domain>")
