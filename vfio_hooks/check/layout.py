"""Reading a domain's XML for editing, and writing it so that only what was edited differs.

libvirt writes attributes in single quotes and lxml in double ones: without care every line of a
domain would be another one.
"""

import re
from typing import TYPE_CHECKING

from vfio_hooks.domain import element

if TYPE_CHECKING:
    from lxml.etree import _Element

_PARTS = re.compile(r"<!--.*?-->|<\?.*?\?>|<[^>]*>|[^<]+", re.DOTALL)
_ATTRIBUTE = re.compile(r'="([^"]*)"')


def editable(xml: bytes) -> "_Element":
    """A domain with its comments. Raises HookError for what is none."""
    from lxml import etree

    element(xml)
    return etree.fromstring(xml, etree.XMLParser(resolve_entities=False, no_network=True))


def written(root: "_Element", like: bytes) -> bytes:
    """The text of what `editable` made of `like`, in the same style."""
    from lxml import etree

    old = like.decode(errors="replace")
    whole: str = etree.tostring(root.getroottree(), encoding="unicode")
    if len(re.findall("='", old)) > len(re.findall('="', old)):
        whole = "".join(_single(part, old) for part in _PARTS.findall(whole))
    declaration = re.match(r"\s*<\?xml.*?\?>\s*", old)
    end = old[len(old.rstrip()) :]
    return ((declaration[0] if declaration else "") + whole.rstrip() + end).encode()


def _single(part: str, old: str) -> str:
    if part.startswith(("<!", "<?")):
        return part
    if part.startswith("<"):
        return _ATTRIBUTE.sub(lambda found: f"='{found[1].replace(chr(39), '&apos;')}'", part)
    # libvirt escapes quotes in text as well, people do not.
    for character, entity in (("'", "&apos;"), ('"', "&quot;")):
        if entity in old:
            part = part.replace(character, entity)
    return part
