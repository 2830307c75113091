"""A domain's XML, improved by the findings that can do so, and otherwise as it was."""

from collections.abc import Collection

from vfio_hooks.check import Finding, examine, rules
from vfio_hooks.check.rule import Area, Guest, Patient
from vfio_hooks.domain import parse
from vfio_hooks.domain.text import editable, element, written
from vfio_hooks.record import record, replace

_DOMAIN: tuple[Area, ...] = ("domain",)
_ROUNDS = 5
"""One fix may bring what the next one is for: an iothread that is not pinned yet."""


@record
class Fixed:
    """The domain's XML before and after, what was mended, by the names of the findings, and what
    is still found that a fix was for. That is none, or this program has a defect."""

    before: bytes
    after: bytes
    names: tuple[str, ...]
    left: tuple[str, ...] = ()


PLACE = ("node-memory", "cpu-topology", "cpu-topoext")
"""The findings that go with new pins: where the memory is, and which cores the guest sees."""


def consistent(patient: Patient, xml: bytes) -> bytes:
    """A domain's XML that has new pins, with what else has to go with them."""
    others = {rule.name for rule in rules()} - set(PLACE)
    return mend(patient, xml, others).after


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
    return [finding for finding in found if finding.seen.is_fixable]


def _changed(xml: bytes, found: list[Finding]) -> bytes:
    root = editable(xml)
    for finding in found:
        for edit in finding.seen.edits:
            edit.apply(root)
    return written(root, xml)
