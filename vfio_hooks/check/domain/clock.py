"""The guest's clock and timers."""

from collections.abc import Iterator

from vfio_hooks.check.domain.facts import passed
from vfio_hooks.check.domain.hyperv import has_all
from vfio_hooks.check.domain.kind import (
    attribute,
    hides_hypervisor,
    is_old_windows,
    is_windows,
    is_x86,
    own_cpu,
    sees_lights,
)
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain.editing import Edit, put
from vfio_hooks.plural import verb


def _timer(name: str) -> str:
    return f"clock/timer[@name='{name}']"


def _told(guest: Guest, name: str, **attributes: str) -> tuple[Edit, ...]:
    """The edits that give a timer attributes. libvirt's schema requires an offset in each <clock>;
    a domain without one has UTC."""
    has_offset = attribute(guest, "clock", "offset") is not None
    offset = () if has_offset else (put("clock", offset="utc"),)
    return (*offset, put(_timer(name), **attributes))


@guest_rule(
    "clock-hpet",
    "warning",
    why="If Windows finds this timer it may use it, and each read of it is a slow exit from the "
    "guest to QEMU.",
    source="forum: Increasing VFIO VGA Performance",
    sure="likely",
)
def hpet(patient: Patient, guest: Guest) -> Iterator[Seen]:
    present = attribute(guest, _timer("hpet"), "present")
    uses = is_x86(guest) and is_windows(guest) and not is_old_windows(guest)
    # Where Windows sees no hypervisor it has no clock of Hyper-V's, and the ACPI timer, which it
    # would read in place of this one, is QEMU's as well.
    if uses and not hides_hypervisor(guest) and passed(patient, guest) and present != "no":
        yield Seen(
            "the guest has an emulated HPET" + ("" if present else ", which is the default"),
            edits=_told(guest, "hpet", present="no"),
        )


@guest_rule(
    "clock-hyperv",
    "warning",
    why="It lets Windows read the time without leaving the guest, thousands of times a second.",
    source="time-keeping",
)
def hyperv(patient: Patient, guest: Guest) -> Iterator[Seen]:
    # Those two modes have it, and with stimer it is an error.
    if has_all(guest) or attribute(guest, "features/hyperv/stimer", "state") == "on":
        return
    if sees_lights(guest) and attribute(guest, _timer("hypervclock"), "present") != "yes":
        yield Seen("the guest has no hypervclock", edits=_told(guest, "hypervclock", present="yes"))


@guest_rule(
    "clock-offset",
    "hint",
    why="Windows expects local time from the hardware clock, unless its registry says otherwise.",
    source="guide: Clock offset",
    sure="likely",
)
def offset(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if is_windows(guest) and attribute(guest, "clock", "offset") in (None, "utc"):
        yield Seen(
            "the guest's hardware clock is UTC",
            edits=(put("clock", offset="localtime"),),
            by_hand=True,
        )


@guest_rule(
    "clock-ticks",
    "hint",
    why="If the guest was held up, its lost ticks are delivered faster (rtc) or later (pit), so "
    "that its time stays right. With hypervclock Windows does not count ticks.",
    source="guide: Clock offset",
    sure="likely",
)
def ticks(patient: Patient, guest: Guest) -> Iterator[Seen]:
    has_clock = has_all(guest) or attribute(guest, _timer("hypervclock"), "present") == "yes"
    if not is_x86(guest) or not is_windows(guest) or not passed(patient, guest):
        return
    # A -cpu argument may give it Hyper-V's clock, and QEMU's arguments the timers' policies.
    if own_cpu(guest) is not None:
        return
    left = [
        (name, policy)
        for name, policy in (("rtc", "catchup"), ("pit", "delay"))
        if attribute(guest, _timer(name), "tickpolicy") is None
        and attribute(guest, _timer(name), "present") != "no"
    ]
    # Windows uses Hyper-V's timers instead if it has them and sees them.
    if left and not (has_clock and sees_lights(guest)):
        yield Seen(
            f"the timer{'s' * (len(left) - 1)} {' and '.join(name for name, _ in left)} "
            f"{verb(len(left), 'has', 'have')} no policy for lost ticks",
            edits=tuple(
                edit for name, policy in left for edit in _told(guest, name, tickpolicy=policy)
            ),
        )


RULES = (hpet, hyperv, offset, ticks)
