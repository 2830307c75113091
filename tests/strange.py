"""Every domain of the tests, and each of them changed in strange ways."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import strategies as st
from lxml import etree

from tests.defects import DEFECTS, edited
from tests.hosttree import gpu_host, guides_host
from tests.shapes import SHAPES
from tests.users.cases import CASES
from tests.users.faults import FAULTS
from tests.users.strangers import STRANGERS
from tests.users.styles import STYLES

_HERE = Path(__file__).parent


def _domains() -> Iterator[tuple[str, str]]:
    for path in sorted(_HERE.rglob("*.xml")):
        yield path.stem, path.read_text()
    for name, style in STYLES.items():
        yield name, style.xml
    for number, (_, edits, _) in enumerate(DEFECTS):
        yield f"defect {number}", edited(edits)
    for base, *faults in CASES:
        edits = [edit for name in faults for edit in FAULTS[name].edits]
        yield ", ".join((base, *faults)), edited(edits, STYLES[base].xml)


DOMAINS = dict(_domains())
"""Domain XMLs by a name for each."""

HOSTS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda root: None,
    "gpu": gpu_host,
    "guide": guides_host,
    **{f"shape {name}": shape.write for name, shape in SHAPES.items()},
    **{f"style {name}": style.host for name, style in STYLES.items()},
    **{f"stranger {name}": build for name, (build, _) in STRANGERS.items()},
}
"""What makes a host below a folder."""

_VALUES = ("", "0", "1", "-1", "99999999999", "auto", "0x10", "yes", "ä", "0-3", "1,,2", " 3 ")


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """One of these domains with elements dropped or doubled, and attributes and texts changed."""
    root = etree.fromstring(DOMAINS[draw(st.sampled_from(sorted(DOMAINS)))].encode())
    for _ in range(draw(st.integers(1, 4))):
        elements = [one for one in root.iter() if isinstance(one.tag, str) and one is not root]
        one = draw(st.sampled_from(elements or [root]))
        parent, names = one.getparent(), sorted(map(str, one.attrib))
        match draw(st.sampled_from(("drop", "double", "text", "attribute", "no attribute"))):
            case "drop" if parent is not None:
                parent.remove(one)
            case "double" if parent is not None:
                parent.append(copy.deepcopy(one))
            case "text":
                one.text = draw(st.sampled_from(_VALUES))
            case "attribute" if names:
                one.set(draw(st.sampled_from(names)), draw(st.sampled_from(_VALUES)))
            case "no attribute" if names:
                del one.attrib[draw(st.sampled_from(names))]
    return etree.tostring(root)
