"""A domain's XML, improved by the findings that can do so, and otherwise as it was."""

from collections.abc import Collection

from vfio_hooks.check import Finding, examine, rules
from vfio_hooks.check.rule import Area, Guest, Patient
from vfio_hooks.domain import parse
from vfio_hooks.domain.text import editable, element, written
from vfio_hooks.record import record, replace

_DOMAIN: tuple[Area, ...] = ("domain",)
_ROUNDS = 5
"""One fix may make another one necessary: it adds an iothread, which then has to be pinned."""


@record
class Fixed:
    """The domain's XML before and after, the `names` of the findings that were fixed, and those
    that are `left` after their fix, which only a defect of this program can cause."""

    before: bytes
    after: bytes
    names: tuple[str, ...]
    left: tuple[str, ...] = ()


PLACE = ("node-memory", "cpu-topology", "cpu-topoext")
"""The findings that go with new pins: where the memory is, and which cores the guest sees."""


def consistent(patient: Patient, xml: bytes) -> bytes:
    """A domain's XML that has new pins, with the other changes that these pins need."""
    others = {rule.name for rule in rules()} - set(PLACE)
    return mend(patient, xml, others).after


def mend(patient: Patient, xml: bytes, silenced: Collection[str] = ()) -> Fixed:
    """Apply each fix to a domain's XML until nothing is found that has one.

    The guest in `patient` is ignored. Raises HookError if `xml` is not a domain.
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
