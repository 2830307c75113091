"""Reading a domain's XML for editing, and writing it so that only what was edited differs.

libvirt writes attributes in single quotes and lxml in double ones; entities, and white space
inside of tags, libxml2 has its own way too. So of what is written, only the lines that an edit
changed are taken.
"""

import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from vfio_hooks.domain import element

if TYPE_CHECKING:
    from lxml.etree import _Element

_PARTS = re.compile(r"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>|<[^>]*>|[^<]+", re.DOTALL)
_ATTRIBUTE = re.compile(r'="([^"]*)"')
_DECLARATION = re.compile(r"\s*<\?xml.*?\?>\s*")


def editable(xml: bytes) -> "_Element":
    """A domain with its comments. Raises HookError for what is none."""
    from lxml import etree

    element(xml)
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, strip_cdata=False
    )
    return etree.fromstring(xml, parser)


def written(root: "_Element", like: bytes) -> bytes:
    """The text of what `editable` made of `like`, in the same style."""
    encoding = root.getroottree().docinfo.encoding or "UTF-8"
    old = like.decode(encoding)
    declaration = _DECLARATION.match(old)
    head = declaration[0] if declaration else ""
    body = old[len(head) :].rstrip()
    end = old[len(head) + len(body) :]
    start = body[: len(body) - len(body.lstrip())]
    lines, before, after = (
        text.split("\n") for text in (body.lstrip(), _text(editable(like)), _text(root))
    )
    # With an attribute on a line of its own the lines cannot be told which is which.
    made = _patched(lines, before, after, old) if len(lines) == len(before) else after
    if made is after:
        made = [_in_style(line, old) for line in after]
    return (head + start + "\n".join(made) + end).encode(encoding)


def _text(root: "_Element") -> str:
    from lxml import etree

    text: str = etree.tostring(root.getroottree(), encoding="unicode")
    return text.strip()


def _patched(lines: list[str], before: list[str], after: list[str], old: str) -> list[str]:
    """`lines` with what makes `after` of `before`, line by line."""
    made: list[str] = []
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    for kind, start, end, to_start, to_end in matcher.get_opcodes():
        if kind == "equal":
            made += lines[start:end]
        else:
            made += [_in_style(line, old) for line in after[to_start:to_end]]
    return made


def _in_style(text: str, old: str) -> str:
    """Text of lxml's in the quotes that `old` has most of."""
    if old.count("='") <= old.count('="'):
        return text
    return "".join(_single(part, old) for part in _PARTS.findall(text))


def _single(part: str, old: str) -> str:
    if part.startswith(("<!", "<?")):
        return part
    if part.startswith("<"):
        return _ATTRIBUTE.sub(
            lambda found: "='{}'".format(found[1].replace("'", "&apos;").replace("&quot;", '"')),
            part,
        )
    # libvirt escapes quotes in text as well, people do not.
    for character, entity in (("'", "&apos;"), ('"', "&quot;")):
        if entity in old:
            part = part.replace(character, entity)
    return part
