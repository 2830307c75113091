"""Edits of a domain's XML as the lines of XML that a person would type."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from vfio_hooks.domain.editing import Edit, keys, owner


@dataclass
class _Shown:
    """An element to be shown, with its children by their part of the path."""

    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    below: dict[str, "_Shown"] = field(default_factory=dict)


def shown(edits: Iterable[Edit]) -> str:
    """A line for each place: "<clock><timer name='hpet' present='no'/></clock>"."""
    top, owners, lines = _Shown(), dict[str, tuple[str, list[str]]](), list[str]()
    for edit in edits:
        place = owner(edit.path)
        if edit.gone:
            lines.append(f"remove {_removed(edit.path)}")
        elif edit.path == "":
            lines.append(f"<domain{_words(_given(edit))}>")
        elif place is None:
            _insert(top, edit.path, edit)
        else:
            tag, key, path = place
            own = _Shown()
            _insert(own, path, edit)
            line = "".join(_text(part, one) for part, one in own.below.items())
            line = line or f"<{tag} …{_words(_given(edit))}>"
            owners.setdefault(line, (tag, []))[1].append(key)
    for line, (tag, names) in owners.items():
        lines.append(f"in the <{tag}> of {', '.join(names)}: {line}")
    return "\n".join([*(_text(part, one) for part, one in top.below.items()), *lines])


def _insert(top: _Shown, path: str, edit: Edit) -> None:
    one = top
    for part in path.split("/") if path else ():
        one = one.below.setdefault(part, _Shown(dict(keys(part))))
    if path:
        one.attributes |= _given(edit)
        one.text = edit.text or ""


def _given(edit: Edit) -> dict[str, str]:
    return {name: value for name, value in edit.attributes.items() if value is not None}


def _words(attributes: dict[str, str]) -> str:
    return "".join(f" {name}='{value}'" for name, value in attributes.items())


def _text(part: str, one: _Shown) -> str:
    tag = part.partition("[")[0]
    inside = one.text + "".join(_text(below, child) for below, child in one.below.items())
    start = f"<{tag}{_words(one.attributes)}"
    return f"{start}>{inside}</{tag}>" if inside else f"{start}/>"


def _removed(path: str) -> str:
    place = owner(path)
    above, _, last = (place[2] if place else path).rpartition("/")
    if last == "*":
        return f"what is in <{above.rpartition('/')[2]}>"
    start = f"<{last.partition('[')[0]}{_words(dict(keys(last)))}>"
    return f"{start} of {place[1]}" if place else start
