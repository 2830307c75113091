"""Whether anything disturbs the VM, watched soon after its start and reported in the log.

It is what `vfio-hooks verify` shows: where the VM's threads may run and do run, where its memory
is, and which programs and interrupts of the host came to its CPUs. A small service of its own
(vfio-hooks-verify-UUID) watches, so the VM's start does not wait for it. `vfio-hooks log` shows the
verdicts. What is wrong is a warning there and changes nothing else.
"""

from collections.abc import Iterator

from vfio_hooks.domain import Domain
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.record import record
from vfio_hooks.services import argv
from vfio_hooks.services.service import service
from vfio_hooks.sharing import Run
from vfio_hooks.steps import Step

LONGEST = 3600
"""How many seconds a VM may be watched at most."""


@record
class Options:
    seconds: float = 30.0
    """How many seconds to watch, from the start of the VM."""

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= LONGEST:
            raise ValueError(f"seconds must be more than 0, and {LONGEST} at most")


def plan(event: Event, domain: Domain, options: Options, host: Host) -> Iterator[Step]:
    if event.op != "started":
        return
    watch = ("verify", "--log", f"--seconds={options.seconds:g}", "--", domain.name)
    knob = service(
        f"vfio-hooks-verify-{domain.uuid}",
        f"Watch whether anything disturbs VM {domain.name}",
        argv("vfio_hooks", *watch, site=True),
        f"watches for {options.seconds:g} s whether anything disturbs the VM",
        stays=False,
    )
    yield Step("verify", knob, Run(), until="stopped", required=False)
