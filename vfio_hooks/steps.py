"""A step of a plan: one thing of the host (a knob), and how the VM wants to share it.

Steps are data. They are printed by a dry run, written to the journal before they are carried
out, and read back from there by a later process which may know neither the plugin nor the
configuration that they came from.
"""

from __future__ import annotations

from vfio_hooks import sharing
from vfio_hooks.errors import HookError
from vfio_hooks.knobs import Knob, knob_class
from vfio_hooks.record import fields, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal

    from vfio_hooks.sharing import Share

    Until = Literal["stopped", "release"]

_SHARES = {
    kind.__name__.lower(): kind
    for kind in (
        sharing.Override,
        sharing.Exclusive,
        sharing.Subtract,
        sharing.Only,
        sharing.Include,
        sharing.Add,
        sharing.AtLeast,
        sharing.Run,
        sharing.Once,
    )
}


@record
class Step:
    """One change to the host. `until` is the libvirt event that undoes it: at "stopped" the guest
    is gone and its devices are still on vfio-pci; at "release" libvirt has given them back. A step
    that is not `required` may fail without stopping the VM's start. `awaits` is the key of an
    earlier step that makes the object of this one, which may not exist before."""

    plugin: str
    knob: Knob
    share: Share
    until: Until = "release"
    required: bool = True
    awaits: str = ""

    @property
    def key(self) -> str:
        """What the step is about; the same for every VM that wants the same thing."""
        return self.knob.key

    def as_json(self) -> dict[str, Any]:
        return {
            "plugin": self.plugin,
            "knob": {"kind": self.knob.kind, **_fields(self.knob)},
            "share": {"kind": type(self.share).__name__.lower(), **_fields(self.share)},
            "until": self.until,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Step:
        """The step from which `as_json` was made. Raises HookError for a step that this version
        does not know, as a newer one may have written it."""
        try:
            knob: Knob = _build(knob_class, data["knob"])
            share: Share = _build(_SHARES.__getitem__, data["share"])
            return cls(data["plugin"], knob, share, data["until"])
        except (KeyError, TypeError, AttributeError, ImportError) as error:
            raise HookError(
                f"a journal has a step that this version does not know ({error})",
                "undo it with the version that wrote it",
            ) from None


def _fields(flat: Knob | Share) -> dict[str, Any]:
    return {field.name: getattr(flat, field.name) for field in fields(flat)}


def _build(kinds: Callable[[str], type[Any]], data: dict[str, Any]) -> Any:
    kind = kinds(data["kind"])
    given = {name: data[name] for name in kind.__match_args__ if name in data}
    return kind(**{name: tuple(one) if type(one) is list else one for name, one in given.items()})
