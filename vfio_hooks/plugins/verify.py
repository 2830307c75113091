"""Whether the VM is left alone, looked at soon after its start and told in the log.

It is what `vfio-hooks verify` shows: where the VM's threads may run and do run, where its memory
is, and which programs and interrupts of the host came to its CPUs. A small service of its own
(vfio-hooks-verify-UUID) watches, so the VM's start does not wait for it; `vfio-hooks log` shows
the verdicts. What is wrong is a warning there and changes nothing else.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import vfio_hooks
from vfio_hooks.domain import Domain
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.knobs import Command
from vfio_hooks.sharing import Run
from vfio_hooks.steps import Step

_LONGEST = 3600


@dataclass(frozen=True)
class Options:
    """`seconds` is how long it watches, from the start of the VM on."""

    seconds: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= _LONGEST:
            raise ValueError(f"seconds must be more than 0, and {_LONGEST} at most")


def plan(event: Event, domain: Domain, options: Options, host: Host) -> Iterator[Step]:
    if event.op != "started":
        return
    unit = f"vfio-hooks-verify-{domain.uuid}"
    do = ["systemd-run", "--quiet", "--collect", "--no-block", f"--unit={unit}"]
    do += [f"--description=How VM {domain.name} is left alone"]
    do += [f"--setenv=PYTHONPATH={os.path.dirname(vfio_hooks.__path__[0])}"]
    do += ["/usr/bin/python3", "-BP", "-m", "vfio_hooks"]
    do += ["verify", "--log", f"--seconds={options.seconds:g}", "--", domain.name]
    # As a pattern, since stopping a unit that has ended already is an error else.
    undo = ["systemctl", "stop", f"{unit}.servic[e]"]
    title = f"{unit}.service: looks for {options.seconds:g} s how the VM is left alone"
    knob = Command(tuple(do), tuple(undo), title=title)
    yield Step("verify", knob, Run(), until="stopped", required=False)
