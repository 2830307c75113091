"""A domain's XML made better by the findings that can, and as it was everywhere else."""

import difflib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from vfio_hooks.check import Finding, examine
from vfio_hooks.check.rule import Area, Guest, Patient
from vfio_hooks.domain import element, parse

_DOMAIN: tuple[Area, ...] = ("domain",)
_ROUNDS = 5
"""One fix may bring what the next one is for: an iothread that is not pinned yet."""
_DECLARATION = re.compile(rb"\s*<\?xml[^>]*\?>\s*")
_TAG = re.compile(r"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<[^>]*>", re.DOTALL)


@dataclass(frozen=True)
class Fixed:
    """The domain's XML before and after, what was mended, by the names of the findings, and what
    is still found that a fix was for. That is none, or this program has a defect."""

    before: bytes
    after: bytes
    names: tuple[str, ...]
    left: tuple[str, ...] = ()


def mend(patient: Patient, xml: bytes, silenced: Collection[str] = ()) -> Fixed:
    """Apply each fix to a domain's XML until nothing is found that has one.

    Of `patient`, the guest is left out of account. Raises HookError for what is no domain.
    """
    text, names = xml, list[str]()
    for _ in range(_ROUNDS):
        found = _fixable(patient, text, silenced)
        if not found:
            break
        names += [finding.rule.name for finding in found]
        text = _changed(text, found)
    left = {finding.rule.name for finding in _fixable(patient, text, silenced)}
    return Fixed(xml, text, tuple(dict.fromkeys(names)), tuple(sorted(left)))


def _fixable(patient: Patient, xml: bytes, silenced: Collection[str]) -> list[Finding]:
    guest = Guest(parse(xml), element(xml))
    found = examine(replace(patient, guest=guest), silenced, _DOMAIN)
    return [finding for finding in found if finding.seen.fix]


def _changed(xml: bytes, found: list[Finding]) -> bytes:
    """The XML with these fixes. Only lines that a fix changes are written anew, as libxml2 has
    quotes, entities and white space inside of tags its own way."""
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, strip_cdata=False
    )
    declared = _DECLARATION.match(xml)
    head = declared[0] if declared else b""
    root = etree.fromstring(xml, parser)
    tree = root.getroottree()
    encoding = tree.docinfo.encoding or "UTF-8"

    def written() -> list[str]:
        text: str = etree.tostring(tree, encoding="unicode")
        return text.split("\n")

    before = written()
    for finding in found:
        if finding.seen.fix:
            finding.seen.fix(root)
    original = xml[len(head) :].decode(encoding)
    lines = original.split("\n")
    quote = _quotes(original)
    after = written()
    # With an attribute on a line of its own the lines cannot be told which is which.
    if len(lines) == len(before) or (len(lines) == len(before) + 1 and not lines[-1]):
        after = _patched(lines, before, after, quote)
    else:
        after = quote("\n".join(after)).split("\n")
    return head + "\n".join(after).encode(encoding)


def _patched(
    lines: list[str], before: list[str], after: list[str], quote: Callable[[str], str]
) -> list[str]:
    """`lines` with what makes `after` of `before`, line by line."""
    made: list[str] = []
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for kind, start, end, to_start, to_end in matcher.get_opcodes():
        made += (
            lines[start:end] if kind == "equal" else [quote(one) for one in after[to_start:to_end]]
        )
    return made + lines[len(before) :]


def _quotes(text: str) -> Callable[[str], str]:
    """Writes attributes in the quotes that the text has most of; libxml2 has double ones."""
    if text.count("='") <= text.count('="'):
        return lambda line: line

    def attribute(found: re.Match[str]) -> str:
        return "='" + found[1].replace("'", "&apos;").replace("&quot;", '"') + "'"

    def tag(found: re.Match[str]) -> str:
        one = found[0]
        return one if one.startswith("<!") else re.sub(r'="([^"]*)"', attribute, one)

    return lambda line: _TAG.sub(tag, line)
