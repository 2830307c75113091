"""The guest's clock and timers."""

from collections.abc import Iterator

from vfio_hooks.check.domain.facts import attribute, is_kvm, is_windows, is_x86, passed
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain.editing import put

_CLOCKSOURCE = "/sys/devices/system/clocksource/clocksource0/current_clocksource"


def _timer(name: str) -> str:
    return f"clock/timer[@name='{name}']"


@guest_rule(
    "clock-hpet",
    "warning",
    why="Where Windows finds this timer it may use it, and each look at it leaves the guest.",
    source="forum: Increasing VFIO VGA Performance",
    sure="likely",
)
def hpet(patient: Patient, guest: Guest) -> Iterator[Seen]:
    present = attribute(guest, _timer("hpet"), "present")
    if is_x86(guest) and is_windows(guest) and passed(patient, guest) and present != "no":
        yield Seen(
            "the guest has an emulated HPET" + ("" if present else ", which is the default"),
            "<clock><timer name='hpet' present='no'/></clock>",
            put(_timer("hpet"), present="no"),
        )


@guest_rule(
    "clock-hyperv",
    "warning",
    why="It lets Windows read the time without leaving the guest, thousands of times a second.",
    source="time-keeping",
)
def hyperv(patient: Patient, guest: Guest) -> Iterator[Seen]:
    timer = _timer("hypervclock")
    if is_kvm(guest) and is_windows(guest) and attribute(guest, timer, "present") != "yes":
        yield Seen(
            "the guest has no hypervclock",
            "<clock><timer name='hypervclock' present='yes'/></clock>",
            put(timer, present="yes"),
        )


@guest_rule(
    "clock-offset",
    "hint",
    why="Windows takes the hardware clock for local time, unless its registry says otherwise.",
    source="guide: Clock offset",
    sure="likely",
)
def offset(patient: Patient, guest: Guest) -> Iterator[Seen]:
    value = attribute(guest, "clock", "offset")
    if is_windows(guest) and value in (None, "utc"):
        yield Seen("the guest's hardware clock is UTC", "<clock offset='localtime'>")


@guest_rule(
    "clock-tsc",
    "hint",
    why="The guest then reads the processor's own counter, as the host does.",
    source="time-keeping",
    sure="possible",
)
def tsc(patient: Patient, guest: Guest) -> Iterator[Seen]:
    # A host that does not trust its counter uses another source.
    if patient.host.maybe(_CLOCKSOURCE) != "tsc" or not is_kvm(guest):
        return
    if is_x86(guest) and passed(patient, guest) and guest.xml.find(_timer("tsc")) is None:
        yield Seen(
            "nothing is said about the time stamp counter",
            "<clock><timer name='tsc' present='yes' mode='native'/></clock>",
            put(_timer("tsc"), present="yes", mode="native"),
        )


@guest_rule(
    "clock-ticks",
    "hint",
    why="When the guest was held up, its lost ticks are made up for (rtc), or delivered late "
    "(pit), so that its time does not run away.",
    source="guide: Clock offset",
    sure="likely",
)
def ticks(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not is_x86(guest) or not is_windows(guest) or not passed(patient, guest):
        return
    for name, policy in (("rtc", "catchup"), ("pit", "delay")):
        if attribute(guest, _timer(name), "tickpolicy") is None:
            yield Seen(
                f"the timer {name} has no policy for lost ticks",
                f"<clock><timer name='{name}' tickpolicy='{policy}'/></clock>",
                put(_timer(name), tickpolicy=policy),
            )


RULES = (hpet, hyperv, offset, tsc, ticks)
