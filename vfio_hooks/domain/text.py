"""Reading a domain's XML for editing, and writing it so that only what was edited differs.

libvirt writes attributes in single quotes, lxml in double ones. libxml2 also has its own style for
entities and for white space inside of tags. So only the tags and texts that an edit changed are
taken from what lxml writes.
"""

import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from vfio_hooks.domain.tree import refuse_large, refuse_other, refuse_type, unreadable
from vfio_hooks.errors import HookError

if TYPE_CHECKING:
    from lxml.etree import _Element

_INSIDE = r"""(?:[^<>"']|"[^"]*"|'[^']*')*+"""
_PARTS = re.compile(
    r"\s*(?:<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>"
    # lxml writes an empty element as one tag, so it is one part.
    rf"|<([^\s<>/!?]++){_INSIDE}(?<!/)></\1\s*>|<{_INSIDE}>)|[^<]+|<",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(r'="([^"]*)"')


def element(xml: bytes) -> "_Element":
    """A domain's whole XML, read by lxml. Raises HookError if it is not a domain's."""
    refuse_large(xml)
    root = _read(xml)
    if root.getroottree().docinfo.internalDTD is not None:
        refuse_type()
    refuse_other(root.tag)
    return root


def editable(xml: bytes) -> "_Element":
    """A domain with its comments. Raises HookError if it is not a domain's XML."""
    element(xml)
    return _read(xml, is_edited=True)


def _read(xml: bytes, is_edited: bool = False) -> "_Element":
    """Read XML; if it is edited, with its comments and CDATA sections. Only here lxml may turn out
    to be missing: all other code that needs it works on an element from here."""
    try:
        from lxml import etree
    except ImportError as error:
        raise HookError(
            f"lxml cannot be imported by this Python: {error}", "install python3-lxml"
        ) from None
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        remove_comments=not is_edited,
        strip_cdata=not is_edited,
    )
    try:
        return etree.fromstring(xml, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        # lxml's "(<string>, line 6)" is left out, because it repeats the line.
        raise unreadable(getattr(error, "msg", error)) from None


def serialized(root: "_Element") -> str:
    """The text of a domain, as lxml writes it, without the declarations of namespaces that are not
    used any more."""
    from lxml import etree

    etree.cleanup_namespaces(root)
    return etree.tostring(root, encoding="unicode")


def written(root: "_Element", like: bytes) -> bytes:
    """The text of a domain that `editable` has read from `like`, in the style of `like`."""
    from lxml import etree

    encoding = root.getroottree().docinfo.encoding or "UTF-8"
    old = like.decode(encoding)
    parts = _parts(old)
    tags = [number for number, part in enumerate(parts) if re.match(r"\s*<[^!?]", part)]
    first, last = tags[0], tags[-1] + 1
    root_tag = parts[first].lstrip()
    start = "".join(parts[: first + 1]).removesuffix(root_tag)
    before, after = (
        _parts(etree.tostring(one, encoding="unicode")) for one in (editable(like), root)
    )
    if before == after:
        return like
    # Nothing around the root is edited, and lxml drops the white space there.
    own = [root_tag, *parts[first + 1 : last]]
    if len(own) != len(before):
        own = [_in_style(part, old) for part in before]
    made = _patched(own, before, after, old)
    return "".join([start, *made, *parts[last:]]).encode(encoding)


def _parts(text: str) -> list[str]:
    """Tags and comments, each with the white space before it, and other texts."""
    return [found[0] for found in _PARTS.finditer(text)]


def _patched(parts: list[str], before: list[str], after: list[str], old: str) -> list[str]:
    """`parts` with the changes that lead from `before` to `after`, part by part."""
    made: list[str] = []
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    for kind, start, end, to_start, to_end in matcher.get_opcodes():
        if kind == "equal":
            made += parts[start:end]
        else:
            made += [_in_style(part, old) for part in after[to_start:to_end]]
    return made


def _in_style(part: str, old: str) -> str:
    """A part that lxml wrote, with the quotes that are most frequent in `old`."""
    kind = part.lstrip()[:2]
    if kind in ("<!", "<?") or old.count("='") <= old.count('="'):
        return part
    if kind.startswith("<"):
        return _ATTRIBUTE.sub(
            lambda found: "='{}'".format(found[1].replace("'", "&apos;").replace("&quot;", '"')),
            part,
        )
    # libvirt also escapes quotes in text, but people do not.
    for character, entity in (("'", "&apos;"), ('"', "&quot;")):
        if entity in old:
            part = part.replace(character, entity)
    return part
