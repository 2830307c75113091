"""Both readers of a domain's XML, expat of the events and lxml of what edits, see the same."""

from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree

from tests.defects import DEFECTS, edited
from tests.fuzz import inputs
from tests.test_domain import GUIDE, MEMORY, WRONG, wrapped
from vfio_hooks.domain import Domain, of_element, parse
from vfio_hooks.domain.text import element
from vfio_hooks.domain.tree import Node, read
from vfio_hooks.errors import HookError

FILES = sorted(Path(__file__).parent.rglob("*.xml"))
KEPT = {
    **{path.name: path.read_bytes() for path in FILES},
    **{f"fuzzed {number}": data for number, data in enumerate(inputs("xml"))},
    **{f"wrong: {name}": xml for name, (xml, _) in WRONG.items()},
    **{f"defect {number}": edited(edits).encode() for number, (_, edits, _) in enumerate(DEFECTS)},
    "guide": GUIDE.encode(),
    "memory": MEMORY.encode(),
}


def outcome(reader: Any, xml: bytes) -> Domain | str:
    """The domain, or what is wrong with it; each reader has its own words for no XML."""
    try:
        return of_element(reader(xml))
    except HookError as error:
        return "no XML" if error.problem.startswith("the domain XML") else str(error)


def plain(root: Any) -> tuple[Any, ...]:
    """An element with all that is in it."""
    below = root.below if isinstance(root, Node) else [one for one in root if is_element(one)]
    attributes = root.attributes if isinstance(root, Node) else dict(root.attrib)
    return root.tag, root.text or "", attributes, [plain(one) for one in below]


def is_element(one: Any) -> bool:
    return isinstance(one.tag, str)


@pytest.mark.parametrize("xml", KEPT.values(), ids=KEPT)
def test_the_same_domain_of_what_the_tests_have(xml: bytes) -> None:
    # libxml2 ignores what comes after a NUL; expat does not take it for XML.
    assert outcome(read, xml) == ("no XML" if b"\0" in xml else outcome(element, xml))


NAMES = st.sampled_from(["a", "b", "x:a", "name"])
TEXTS = st.text(st.sampled_from("ab \n\t<&>'\"\x7f\xa0é\u2028\U0001f600"), max_size=6)
FILLINGS = st.one_of(
    TEXTS.map(escape),
    TEXTS.map(lambda text: f"<!--{text}-->"),
    TEXTS.filter(lambda text: "]]>" not in text).map(lambda text: f"<![CDATA[{text}]]>"),
    st.sampled_from(["&#10;", "&#x1f600;", "&lt;", "\r\n", "\r", "<?do it?>"]),
)


def _element(insides: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    attributes = st.dictionaries(NAMES, TEXTS, max_size=3).map(
        lambda found: "".join(f" {name}={quoteattr(value)}" for name, value in found.items())
    )
    inside = st.lists(insides, max_size=4).map("".join)
    return st.builds("<{0}{1}>{2}</{0}>".format, NAMES, attributes, inside)


ELEMENTS = st.recursive(FILLINGS, _element, max_leaves=20)


@given(st.lists(ELEMENTS, max_size=4).map("".join))
def test_the_same_elements_of_any_xml(inside: str) -> None:
    xml = f"<?xml version='1.0'?><!-- x --><domain xmlns:x='urn:x'>{inside}</domain>".encode()
    assert plain(read(xml)) == plain(element(xml))


NUMBERS = st.sampled_from(["0", "1", "2", " 3 ", "0x10", "010", "", "-1", "a", "08", "9" * 30])
SETS = st.sampled_from(["0", "0-3,^2", "", "4,", "a", "3-1"])
PLACES = st.builds(
    "<source><address domain='{0}' bus='{1}' slot='{0}' function='{2}'/></source>".format,
    NUMBERS,
    NUMBERS,
    NUMBERS,
)
PARTS = st.one_of(
    st.builds(
        "<memory unit='{1}'>{0}</memory>".format, NUMBERS, st.sampled_from(["GiB", "b", "x"])
    ),
    st.builds("<vcpu cpuset='{1}'>{0}</vcpu>".format, NUMBERS, SETS),
    st.builds("<iothreads>{0}</iothreads>".format, NUMBERS),
    st.builds(
        "<cputune><vcpupin vcpu='{0}' cpuset='{1}'/><emulatorpin cpuset='{1}'/></cputune>".format,
        NUMBERS,
        SETS,
    ),
    st.builds(
        "<numatune><memory mode='strict' nodeset='{1}'/><memnode cellid='{0}' nodeset='{1}'/>"
        "</numatune>".format,
        NUMBERS,
        SETS,
    ),
    st.builds(
        "<memoryBacking><hugepages><page size='{0}' nodeset='{1}'/></hugepages>"
        "</memoryBacking>".format,
        NUMBERS,
        SETS,
    ),
    st.builds("<cpu><numa><cell memory='{0}' cpus='{1}'/></numa></cpu>".format, NUMBERS, SETS),
    st.builds("<devices><hostdev type='pci' managed='yes'>{}</hostdev></devices>".format, PLACES),
    st.builds("<devices><interface type='hostdev'>{}</interface></devices>".format, PLACES),
    st.builds(
        "<devices><disk><a><source type='pci'><address bus='{}'/></source></a></disk>"
        "</devices>".format,
        NUMBERS,
    ),
    st.builds("<devices><shmem name='m'><size>{}</size></shmem></devices>".format, NUMBERS),
    st.builds(
        "<commandline xmlns='http://libvirt.org/schemas/domain/qemu/1.0'><arg value='"
        "memory-backend-file,mem-path=/dev/shm/a,size={}'/></commandline>".format,
        NUMBERS,
    ),
)


@example(["<devices><disk><source type='pci'/></disk></devices>"])
@given(st.lists(PARTS, max_size=5))
def test_the_same_domain_of_any_xml(parts: list[str]) -> None:
    xml = wrapped("".join(parts))
    assert outcome(read, xml) == outcome(element, xml)


PATHS = {
    "a": ["1", "4", "5"],
    "a/b": ["2", "3"],
    "a/b[@t='x']": ["3"],
    "a//b": ["2", "3", "6"],
    "a//b[@t='x']": ["3", "6"],
    "{urn:a/b}c": ["7"],
    "{urn:a/b}c/b": ["8"],
    "b": [],
    "a/a/a": [],
}


@pytest.mark.parametrize("path", PATHS)
def test_paths_are_those_of_lxml(path: str) -> None:
    xml = (
        b"<domain><a n='1'><b n='2'/><b n='3' t='x'>text</b></a><a n='4'/>"
        b"<a n='5'><d><b n='6' t='x'/></d></a><c xmlns='urn:a/b' n='7'><b xmlns='' n='8'/></c>"
        b"</domain>"
    )
    ours, theirs = read(xml), element(xml)
    assert [one.get("n") for one in ours.iterfind(path)] == PATHS[path]
    assert [one.get("n") for one in theirs.iterfind(path)] == PATHS[path]
    assert ours.findtext(path) == theirs.findtext(path)
    found, other = ours.find(path), theirs.find(path)
    assert (found is None) == (other is None)
    if found is not None and other is not None:
        assert [found.get("t"), found.get("t", "no")] == [other.get("t"), other.get("t", "no")]


@pytest.mark.parametrize(("deep", "expected"), [(200, Domain), (300, str), (100_000, str)])
def test_elements_in_one_another(deep: int, expected: type) -> None:
    xml = wrapped("<a>" * deep + "</a>" * deep)
    assert isinstance(outcome(read, xml), expected)
    assert isinstance(outcome(element, xml), expected)


def test_the_largest_xml_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfio_hooks.domain.tree.LARGEST", 1000)
    xml = wrapped("")
    assert isinstance(parse(xml + b" " * (1000 - len(xml))), Domain)
    with pytest.raises(HookError, match="larger"):
        parse(xml + b" " * (1001 - len(xml)))


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16", "ISO-8859-1", "windows-1252"])
def test_encodings(encoding: str) -> None:
    xml = wrapped("<title>é</title>").decode()
    data = f"<?xml version='1.0' encoding='{encoding}'?>{xml}".encode(encoding)
    assert plain(read(data)) == plain(element(data))
    assert isinstance(etree.fromstring(data), etree._Element)
