"""A piece of advice out of the two documents that this program began with.

They are "VFIO: Tuning your Windows gaming VM for optimal performance" and the forum thread
"Increasing VFIO VGA Performance".
"""

from vfio_hooks.record import record


@record
class Advice:
    """A piece of advice: the findings that give it, by name, and what is to be said of the rest:
    who does it instead, or why no finding can."""

    text: str
    findings: tuple[str, ...] = ()
    note: str = ""


def advice(text: str, findings: str = "", note: str = "") -> Advice:
    return Advice(text, tuple(findings.split()), note)


GUEST = "That is inside of the guest: check prints what to do there."
