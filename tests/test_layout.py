"""Editing XML: what is not edited stays as it was written, byte for byte."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from tests.test_check_domain import GUIDE
from vfio_hooks.domain.text import editable, written

HEADER = """\
<!--
WARNING: THIS IS AN AUTO-GENERATED FILE. CHANGES TO IT ARE LIKELY TO BE
OVERWRITTEN AND LOST. Changes to this xml configuration should be made using:
  virsh edit win11
or other application using the libvirt API.
-->

"""
SPACE = st.sampled_from(["", " ", "\n", "\n  ", "\r\n\t"])
WORDS = st.sampled_from(
    ["a", "it's", '"', "&quot;", "&apos;", "&#x9;", "&amp;", "&lt;", ">", "ü", "=", "a='b'", "/>"]
)
TEXT = st.lists(WORDS, max_size=3).map(" ".join)
COMMENT = st.lists(st.sampled_from(["it's", '="', "<a b='c'>", "\n", ">", "ü"]), max_size=4).map(
    lambda words: f"<!-- {' '.join(words)} -->"
)
CDATA = st.just("<![CDATA[<'\"&>]]>")


@st.composite
def attributes(draw: st.DrawFn) -> str:
    names = draw(st.lists(st.sampled_from(["b", "long-name", "x"]), max_size=3, unique=True))
    made = ""
    for name in names:
        quote = draw(st.sampled_from("'\""))
        value = draw(TEXT).replace(quote, "")
        made += (
            f"{draw(SPACE) or ' '}{name}{draw(st.sampled_from(['=', ' = ']))}{quote}{value}{quote}"
        )
    return made + draw(SPACE)


@st.composite
def elements(draw: st.DrawFn, depth: int = 2, name: str = "") -> str:
    name = name or draw(st.sampled_from(["a", "ab", "name", "disk"]))
    if not name.startswith("d") and draw(st.booleans()):
        return f"<{name}{draw(attributes())}/>"
    kinds = [COMMENT, TEXT, SPACE, CDATA]
    inside = st.one_of(*kinds, elements(depth - 1)) if depth else st.one_of(*kinds)
    within = "".join(draw(st.lists(inside, max_size=4)))
    return f"<{name}{draw(attributes())}>{within}</{name}{draw(st.sampled_from(['', ' ']))}>"


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    around = st.lists(st.one_of(COMMENT, SPACE, st.just("<?pi it's?>")), max_size=3).map("".join)
    start = draw(st.sampled_from(["", "<?xml version='1.0' encoding='UTF-8'?>\n"]))
    root = draw(elements(name="domain"))
    return f"{start}{draw(around)}{root}{draw(around)}".encode()


@settings(max_examples=300, deadline=None)
@given(documents())
def test_without_an_edit_every_byte_stays(text: bytes) -> None:
    assert written(editable(text), text) == text


@settings(max_examples=300, deadline=None)
@given(documents(), st.data())
def test_an_edit_changes_what_it_edits_and_nothing_else(text: bytes, data: st.DataObject) -> None:
    root = editable(text)
    every = [one for one in root.iter("*") if one is not root]
    target = data.draw(st.sampled_from(every)) if every else root
    what = data.draw(st.sampled_from(["set", "add", "drop"]))
    if what == "set":
        target.set("x", 'it\'s "new"')
    elif what == "add":
        etree.SubElement(target, "new").set("x", "1")
    elif (parent := target.getparent()) is not None:
        parent.remove(target)
    made = written(root, text)
    assert etree.tostring(editable(made).getroottree()) == etree.tostring(root.getroottree())


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        (f"{HEADER}<domain type='kvm'>\n  <a b='1'/>\n</domain>\n", "b='1'", "b='2'"),
        (f'{HEADER}<domain type="kvm">\n  <a b="1"/>\n</domain>\n', 'b="1"', 'b="2"'),
        (GUIDE.replace("<vcpu ", '<a b="1"/>\n  <vcpu '), 'b="1"', 'b="2"'),
        (
            "<domain\n  type='kvm'>\n<!-- a\n b --><a\n b='1'\n/><c></c></domain>",
            "\n b='1'\n",
            " b='2'",
        ),
    ],
    ids=("single", "double", "guide", "lines"),
)
def test_an_edited_attribute_is_all_that_differs(text: str, old: str, new: str) -> None:
    root = editable(text.encode())
    (one,) = root.iter("a")
    one.set("b", "2")
    assert written(root, text.encode()).decode() == text.replace(old, new)
