"""What is wrong with where QEMU's own threads run: those of the emulator, and I/O threads."""

from collections.abc import Iterator

from vfio_hooks.domain.editing import put
from vfio_hooks.host.cpulist import format_list
from vfio_hooks.placement.kinds import Fault
from vfio_hooks.placement.room import Room
from vfio_hooks.plural import numbered, verb


def emulator(room: Room) -> Iterator[Fault]:
    pin = room.vm.emulator_pin
    # If the vCPUs have every CPU, that is a fault of its own.
    if not room.own or not room.free or room.is_spacious:
        return
    if pin is None:
        text = "the emulator's threads are not pinned, so they run on the vCPUs' CPUs as well"
    elif shared := pin & room.own:
        text = f"the emulator's threads and vCPUs are both pinned to {numbered('CPU', shared)}"
    else:
        return
    edit = put("cputune/emulatorpin", cpuset=format_list(room.free))
    yield Fault("pins-emulator", text, edits=(edit,), cpus=(pin or room.own) & room.own)


def iothreads(room: Room) -> Iterator[Fault]:
    if not room.own or not room.free or room.is_spacious:
        return
    pins = room.vm.iothread_pins
    busy = sorted(room.vm.working_iothreads)
    loose = [one for one in busy if one not in pins]
    shared = {one: cpus for one in busy if (cpus := pins.get(one, frozenset()) & room.own)}
    told = []
    if loose:
        told.append(
            f"{_named(loose)} not pinned, so {'it runs' if len(loose) == 1 else 'they run'} on "
            f"the vCPUs' CPUs as well"
        )
    if shared:
        beside = numbered("CPU", frozenset[int]().union(*shared.values()))
        told.append(f"{_named(list(shared))} pinned to {beside}, as vCPUs are")
    if told:
        yield Fault(
            "pins-iothread",
            "; ".join(told),
            edits=tuple(
                put(f"cputune/iothreadpin[@iothread='{one}']", cpuset=format_list(room.free))
                for one in (*loose, *shared)
            ),
            cpus=frozenset[int]().union(*shared.values()),
        )


def _named(numbers: list[int]) -> str:
    return f"{numbered('iothread', numbers)} {verb(len(numbers))}"


RULES = (emulator, iothreads)
