"""The knob of a hugepage pool: looking for pages, too few of them, and pages still in use."""

from pathlib import Path

import pytest

from tests.fakes.hugepages import use
from tests.fakes.kernel import Kernel, Lines
from tests.test_hugepages import a_host, folder, path, uuid
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.knobs.pages import Pages
from vfio_hooks.sharing import Add
from vfio_hooks.steps import Step


def test_pages_that_are_there_at_once_need_no_word() -> None:
    kernel, lines = a_host(), list[str]()
    kernel.tell = lines.append
    Pages(path(1)).write(kernel, "20")
    assert kernel.read(path(1)) == "20"
    assert lines == []
    assert kernel.triggered == []


@pytest.mark.parametrize("refused", [set(), {"/proc/sys/vm/drop_caches"}])
def test_compaction_finds_more_and_says_so(refused: set[str]) -> None:
    """Also where caches cannot be dropped."""
    kernel, lines = a_host(), list[str]()
    kernel.free_pages, kernel.found_by_compaction = 10, 4
    kernel.tell, kernel.refuses = lines.append, refused
    Pages(path(1), seconds=5).write(kernel, "20")
    assert kernel.read(path(1)) == "20"
    assert ("/proc/sys/vm/drop_caches 3" in kernel.triggered[:1]) == (not refused)
    assert "10 of 20 pages were available at once" in lines[0]
    assert "of 20 pages so far" in lines[-1]


def test_too_few_says_how_many_and_what_the_memory_is_used_for(memory: Path) -> None:
    kernel = a_host()
    kernel.write(path(1), "7")
    kernel.free_pages = 100
    before = kernel.state()
    engine = Engine(kernel, StateFolder(str(memory)), Lines())
    steps = [Step("hugepages", Pages(path(0)), Add(40)), Step("hugepages", Pages(path(1)), Add(90))]
    with pytest.raises(HookError) as caught:
        engine.perform("prepare", uuid(0), "vm", lambda _: steps)
    assert "node 1: only 53 of 90 hugepages of 2 MiB could be made within 0 s" in str(caught.value)
    assert "2 MiB of 16 GiB are free, 4 GiB of programs, 120 MiB hugepages" in str(caught.value)
    assert kernel.state() == before


def test_pages_that_are_still_in_use_are_no_failure(memory: Path) -> None:
    kernel = a_host()
    engine = Engine(kernel, StateFolder(str(memory)), Lines())
    engine.perform("prepare", uuid(0), "vm", lambda _: [Step("hugepages", Pages(path(0)), Add(8))])
    use(kernel, folder(0), 6)
    assert engine.undo("release", uuid(0)) == []
    assert kernel.read(path(0)) == "6", "in use"
    assert Pages(path(0)).read(kernel) == "0"
    use(kernel, folder(0), -6)
    assert kernel.read(path(0)) == "0"


def test_the_surplus_of_older_kernels_is_asked_for_again() -> None:
    class Older(Kernel):
        def _shown(self, name: str, text: str) -> str:
            return super()._shown(name, str(int(text) + 3))

    kernel = Older()
    kernel.files = a_host().files
    Pages(path(0)).write(kernel, "10")
    assert kernel.read(path(0)) == "10"
