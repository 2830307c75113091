"""vfio-hooks undo: putting back by hand what no event of libvirt's put back."""

import os
import signal

import pytest

from tests.command import UUID, Command, as_nobody, needs_root
from tests.hosttree import domain_xml
from tests.test_cli_status import GOVERNOR, OTHER, POOL, cut_off, prepare, put, read
from vfio_hooks.host import WritableHost
from vfio_hooks.knobs.file import File
from vfio_hooks.knobs.pages import Pages
from vfio_hooks.sharing import Add, Once
from vfio_hooks.steps import Step

pytestmark = pytest.mark.real_processes
MORE_PAGES = Step("hugepages", Pages(POOL), Add(8))


@pytest.fixture
def changed(command: Command) -> Command:
    """A host on which two VMs have changed something."""
    put(command, governor="powersave", pages="2")
    prepare(command, UUID, "win11", GOVERNOR)
    prepare(command, OTHER, "b", MORE_PAGES)
    return command


def journals(command: Command) -> list[str]:
    return sorted(path.stem for path in command.state.glob("*.journal"))


@pytest.mark.parametrize("which", ["win11", UUID, UUID.upper()])
def test_one_vm(changed: Command, which: str) -> None:
    result = changed.here("undo", which)
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        "win11: governor: /governor: performance → powersave\nwin11: 1 change undone\n"
    )
    assert (read(changed, "governor"), read(changed, "pages")) == ("powersave", "10")
    assert journals(changed) == [OTHER]


def test_all_vms(changed: Command) -> None:
    result = changed.here("undo", "--all")
    assert (result.code, result.err) == (0, "")
    assert sorted(result.out.splitlines()) == [
        "b: 1 change undone",
        f"b: hugepages: {POOL}: 10 → 2",
        "win11: 1 change undone",
        "win11: governor: /governor: performance → powersave",
    ]
    assert journals(changed) == []
    assert changed.here("undo", "--all").out == "nothing to undo\n"


@needs_root
def test_a_signal_ends_it_between_two_vms(
    changed: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = WritableHost.write
    # A shell starts what runs in the background with it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted(host: WritableHost, name: str, text: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        write(host, name, text)

    monkeypatch.setattr(WritableHost, "write", interrupted)
    result = changed.here("undo", "--all")
    assert result.code == 130
    assert result.out == f"b: hugepages: {POOL}: 10 → 2\n"
    assert (read(changed, "governor"), read(changed, "pages")) == ("performance", "2")
    assert journals(changed) == [UUID]


ONCE = Step("memory", File("/once"), Once("1"))


@pytest.mark.parametrize(
    ("steps", "now", "told"),
    [
        ([GOVERNOR], "performance", "1 change undone"),
        ([GOVERNOR], "powersave", "nothing had to be undone"),
        ([MORE_PAGES, GOVERNOR], "performance", "2 changes undone"),
        ([MORE_PAGES, GOVERNOR], "powersave", "1 change undone"),
        ([ONCE], "powersave", "nothing had to be undone"),
    ],
)
def test_the_last_line_sums_up(command: Command, steps: list[Step], now: str, told: str) -> None:
    put(command, governor="powersave", pages="2", once="0")
    prepare(command, UUID, "win11", *steps)
    put(command, governor=now)
    result = command.here("undo", "win11")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-1] == f"win11: {told}"
    assert not journals(command)


def test_nothing_to_undo_is_no_failure(command: Command) -> None:
    for which in ("win11", UUID):
        result = command.here("undo", which)
        assert (result.code, result.out) == (0, f"nothing to undo for {which}\n")
    assert not command.state.exists()


@pytest.mark.parametrize("verb", ["undo", "status"])
def test_a_mistyped_name_is_no_all_clear(changed: Command, verb: str) -> None:
    result = changed.here(verb, "win1l")
    assert (result.code, result.out) == (1, "")
    assert result.err == "vfio-hooks: nothing is changed by win1l; did you mean win11?\n"
    for other in ("debian", OTHER[:-1] + "c"):
        result = changed.here(verb, other)
        assert (result.code, result.out.endswith(f" {other}\n")) == (0, True)
    # Another VM, whose name is nearly the same.
    (changed.host / "etc/libvirt/hooks/qemu.d/win10").mkdir(parents=True)
    assert changed.here(verb, "win10").code == 0


def test_several_vms_of_one_name_are_told_apart(command: Command) -> None:
    put(command, governor="powersave", pages="2")
    prepare(command, UUID, "win11", GOVERNOR)
    prepare(command, OTHER, "win11", MORE_PAGES)
    result = command.here("undo", "win11")
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        f"vfio-hooks: 2 VMs named win11 have changes; give the UUID of one: {OTHER}, {UUID}\n"
    )
    assert command.here("undo", UUID).code == 0
    assert command.here("undo", "win11").out.splitlines() == [
        f"win11: hugepages: {POOL}: 10 → 2",
        "win11: 1 change undone",
    ]


def test_what_somebody_else_has_changed_is_left_alone(changed: Command) -> None:
    put(changed, governor="ondemand")
    result = changed.here("undo", "win11")
    assert (result.code, result.out, read(changed, "governor")) == (
        0,
        "win11: nothing had to be undone\n",
        "ondemand",
    )
    assert result.err == (
        "vfio-hooks: win11: /governor: somebody else has set it to ondemand since, so it is left "
        "alone\n"
    )


def test_what_cannot_be_put_back_is_a_failure_and_stays_on_record(changed: Command) -> None:
    prepare(changed, UUID, "win11", Step("hugepages", Pages(POOL), Add(4)), GOVERNOR)
    # The kernel counts three pages that are not asked for, and so gives three too few.
    surplus = changed.host / POOL.strip("/").replace("nr_", "surplus_")
    surplus.write_text("3\n")
    put(changed, pages="17")
    result = changed.here("undo", "win11")
    assert result.code == 1
    assert result.out.splitlines() == [
        "win11: governor: /governor: performance → powersave",
        f"win11: {POOL}: 7 of 10 pages were available at once: looking for more",
    ]
    warning, summary = result.err.splitlines()
    assert warning.startswith("vfio-hooks: win11: this host: only ")
    assert summary.startswith("vfio-hooks: 1 of the changes could not be undone; try again when")
    assert UUID in journals(changed)
    surplus.unlink()
    put(changed, pages="14")
    assert changed.here("undo", "win11").code == 0
    assert (read(changed, "pages"), journals(changed)) == ("10", [OTHER])


def test_the_notes_of_idle_events_go_as_well(changed: Command) -> None:
    notes = changed.state / "idle/win11"
    notes.mkdir(parents=True)
    (notes / "start").touch()
    assert changed.here("undo", "win11").code == 0
    assert not notes.exists()


def test_what_cannot_be_put_back_can_be_given_up(changed: Command) -> None:
    prepare(changed, UUID, "win11", Step("hugepages", Pages(POOL), Add(4)), GOVERNOR)
    (changed.host / POOL.strip("/").replace("nr_", "surplus_")).write_text("3\n")
    put(changed, pages="17")
    result = changed.here("undo", "--forget", "win11")
    assert result.code == 0
    assert result.out.splitlines()[-1].startswith(f"win11: forgotten: {POOL} stays ")
    assert result.out.endswith(" (its own is 2)\n")
    assert (read(changed, "governor"), journals(changed)) == ("powersave", [OTHER])
    assert changed.here("undo", "win11").out == "nothing to undo for win11\n"


def test_a_damaged_journal_can_be_given_up(changed: Command) -> None:
    (changed.state / f"{UUID}.journal").write_text("nonsense\n")
    assert changed.here("undo", UUID).code == 1
    result = changed.here("undo", "--forget", UUID)
    assert result.code == 0 and result.out.endswith(": removed; what the VM had changed stays\n")
    assert journals(changed) == [OTHER] and read(changed, "governor") == "performance"


def test_an_event_that_was_cut_off_is_undone(command: Command) -> None:
    cut_off(command)
    put(command, governor="performance")
    assert command.here("undo", "win11").code == 0
    assert (read(command, "governor"), journals(command)) == ("powersave", [])


def test_a_running_vm_keeps_its_devices(changed: Command) -> None:
    running = changed.host / "run/libvirt/qemu"
    running.mkdir(parents=True)
    (running / "win11.xml").touch()
    for which in ("win11", "--all"):
        result = changed.here("undo", which)
        assert (result.code, result.out) == (1, "")
        assert result.err == (
            "vfio-hooks: win11 is running (/run/libvirt/qemu/win11.xml exists); "
            "shut it down, which undoes its changes; or use --force, which lets it keep its PCI "
            "devices\n"
        )
    assert changed.here("undo", "b").code == 0
    assert changed.here("undo", "win11", "--force").code == 0
    assert read(changed, "governor") == "powersave"


def test_a_damaged_journal_is_not_passed_over(changed: Command) -> None:
    (changed.state / f"{UUID}.journal").write_text("[]\n")
    for which in ("win11", UUID):
        result = changed.here("undo", which)
        assert (result.code, result.out) == (1, "")
        assert f"STATE/{UUID}.journal:1: damaged journal" in result.err
    result = changed.here("undo", "--all")
    assert (result.code, result.out) == (
        1,
        f"b: hugepages: {POOL}: 10 → 2\nb: 1 change undone\n",
    )
    assert journals(changed) == [UUID]


@needs_root
@pytest.mark.parametrize("argv", [["undo", "win11"], ["hook", "w", "prepare", "begin", "-"]])
def test_changing_this_host_needs_root(argv: list[str]) -> None:
    done = as_nobody(*argv)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(" needs root; try again with sudo\n")


def test_a_vm_that_was_renamed_goes_by_either_name(changed: Command) -> None:
    """The output has the name that libvirt's own files have now."""
    defined = changed.host / "etc/libvirt/qemu/new.xml"
    defined.parent.mkdir(parents=True)
    defined.write_text(f"<!-- libvirt's -->\n{domain_xml('new', UUID)}")
    for name in ("new", "win11", UUID):
        assert changed.here("status", name).out.startswith(f"new ({UUID})\n")
    running = changed.host / "run/libvirt/qemu/new.xml"
    running.parent.mkdir(parents=True)
    running.write_text(f"<domstatus state='running'>{domain_xml('new', UUID)}</domstatus>")
    for name in ("new", "win11"):
        result = changed.here("undo", name)
        assert "new is running (/run/libvirt/qemu/new.xml exists)" in result.err
    running.unlink()
    result = changed.here("undo", "new")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "new: governor: /governor: performance → powersave",
        "new: 1 change undone",
    ]


def test_the_name_that_a_vm_had_may_be_anothers_now(changed: Command) -> None:
    for name, uuid in (("new", UUID), ("win11", OTHER)):
        defined = changed.host / f"etc/libvirt/qemu/{name}.xml"
        defined.parent.mkdir(parents=True, exist_ok=True)
        defined.write_text(domain_xml(name, uuid))
    assert changed.here("undo", "win11").out.endswith("win11: 1 change undone\n")
    assert journals(changed) == [UUID]


def test_a_journal_without_a_record_is_nothing_to_undo(command: Command) -> None:
    command.state.mkdir(mode=0o700)
    (command.state / f"{UUID}.journal").touch()
    assert command.here("status").out == "nothing is changed\n"
    result = command.here("undo", "--all")
    assert (result.code, result.out, result.err) == (0, "nothing to undo\n", "")
    assert not journals(command)
