"""What a write that lasts has to say goes to the log of the event that waits for it."""

from pathlib import Path

from tests.fakes.kernel import Kernel, Lines
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.host import WritableHost
from vfio_hooks.knobs.file import File
from vfio_hooks.record import record
from vfio_hooks.sharing import Override
from vfio_hooks.steps import Step

UUID = "00000000-0000-0000-0000-00000000000a"


@record
class Talkative(File):
    """A value that takes its time."""

    def write(self, host: WritableHost, value: str) -> None:
        host.tell("half way")
        super().write(host, value)


def test_a_write_tells_the_log_of_its_event(memory: Path) -> None:
    kernel, log = Kernel(), Lines()
    kernel.files["/sys/slow"] = "0\n"
    step = Step("test", Talkative("/sys/slow"), Override("1"))
    Engine(kernel, StateFolder(str(memory)), log).perform("prepare", UUID, "win", lambda _: [step])
    assert log.infos[0] == "win: half way"
    WritableHost().tell("nobody listens, and that is fine")
