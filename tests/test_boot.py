"""`boot`: what is needed, each loader's files, and the way back, on trees of files."""

import re
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.command import Command
from tests.patient import Tree, grow, win11
from vfio_hooks.boot import MODPROBE, Before, Edit, Need, Wanted, Work
from vfio_hooks.boot.joining import extended, is_given, other, together
from vfio_hooks.boot.journal import FILE, REVERTED, applied
from vfio_hooks.boot.loaders import LOADERS, add, without
from vfio_hooks.boot.needs import needs
from vfio_hooks.boot.planning import planned
from vfio_hooks.boot.writing import apply, revert
from vfio_hooks.domain import parse
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host, WritableHost

BOOTED: Tree = {
    "sys/module/": "",
    "proc/cmdline": "BOOT_IMAGE=/boot/vmlinuz-6.12 root=UUID=1 ro quiet",
    "proc/sys/kernel/osrelease": "6.12.0-1-amd64",
}
ENTRY = "title Arch\nlinux /vmlinuz-linux\noptions root=UUID=1 rw\n"
MADE = f"{ENTRY}machine-id 0123\n"
INFO = "LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
GRUB: Tree = {"usr/sbin/update-grub": "", "etc/default/grub": 'GRUB_CMDLINE_LINUX="quiet"\n'}
# One as Arch and Fedora have it, and one as Debian; of a third there are only remains.
KERNELS: Tree = {
    "lib/modules/6.12.0-1-amd64/vmlinuz": "",
    "lib/modules/6.13.0-1-amd64/": "",
    "boot/vmlinuz-6.13.0-1-amd64": "",
    "lib/modules/6.1.0-9-amd64/": "",
}
UPDATE: Tree = {"usr/sbin/update-initramfs": ""}
WANTED = [
    Need("intel_iommu=on", "off"),
    Need("options vfio-pci ids=10de:2504", "early", is_modprobe=True),
]
ALL = (Wanted("", tuple(WANTED)),)
WRITTEN: dict[str, tuple[Tree, list[tuple[str, str]], list[str]]] = {
    "GRUB of Debian": (
        {**GRUB, **UPDATE},
        [
            (
                "etc/default/grub.d/vfio-hooks.cfg",
                'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX intel_iommu=on"\n',
            ),
            ("etc/grub.d/42_vfio-hooks", "'root=UUID=1 ro quiet'\n"),
        ],
        ["update-initramfs", "update-grub"],
    ),
    "GRUB with parameters that GRUB would take for its own language": (
        {
            **GRUB,
            "proc/cmdline": 'ro pci=disable_acs_redir=0:1c.0;0:1c.4 memmap=8G$32G dyndbg="a; $b"',
        },
        [
            (
                "etc/grub.d/42_vfio-hooks",
                "'ro pci=disable_acs_redir=0:1c.0\\;0:1c.4 memmap=8G\\$32G dyndbg=\"a; \\$b\"'\n",
            )
        ],
        ["update-grub"],
    ),
    "systemd-boot": (
        {**UPDATE, "boot/loader/entries/arch.conf": ENTRY},
        [
            ("boot/loader/entries/arch.conf", "options root=UUID=1 rw intel_iommu=on\n"),
            ("boot/loader/entries/aa-vfio-hooks-before.conf", "options root=UUID=1 rw\n"),
        ],
        ["update-initramfs"],
    ),
    "kernel-install": (
        {
            **UPDATE,
            **KERNELS,
            "etc/kernel/cmdline": "root=UUID=1 ro\n",
            "efi/loader/entries/a.conf": MADE,
        },
        [
            ("etc/kernel/cmdline", "root=UUID=1 ro intel_iommu=on\n"),
            ("efi/loader/entries/aa-vfio-hooks-before.conf", "title As before vfio-hooks boot\n"),
        ],
        ["update-initramfs", "kernel-install", "kernel-install"],
    ),
    "systemd-boot where GRUB is left over": (
        {
            **GRUB,
            **UPDATE,
            "boot/loader/entries/arch.conf": ENTRY,
            "boot/grub/grub.cfg": "",
            f"sys/firmware/efi/efivars/{INFO}": "".join(f"{one}\0" for one in "systemd-boot 257"),
        },
        [("boot/loader/entries/arch.conf", "options root=UUID=1 rw intel_iommu=on\n")],
        ["update-initramfs"],
    ),
    "kernel-install without a command line of its own": (
        {**UPDATE, **KERNELS, "boot/efi/loader/entries/a.conf": MADE},
        [("etc/kernel/cmdline", "root=UUID=1 ro quiet intel_iommu=on\n")],
        ["update-initramfs", "kernel-install", "kernel-install"],
    ),
}
TOLD: dict[str, tuple[Tree, str]] = {
    "rpm-ostree": (
        {"run/ostree-booted": "", "usr/sbin/grubby": ""},
        "rpm-ostree kargs --append-if-missing=intel_iommu=on",
    ),
    "grubby": ({"usr/sbin/grubby": ""}, 'grubby --update-kernel=ALL --args="intel_iommu=on"'),
    "limine": ({"boot/limine.conf": ""}, "limine.conf, add: intel_iommu=on"),
    "GRUB elsewhere": ({"boot/grub/grub.cfg": ""}, "grub-mkconfig -o /boot/grub/grub.cfg"),
}
INITRAMFS = {
    "usr/bin/mkinitcpio": (
        "modconf in HOOKS, vfio_pci first in MODULES of /etc/mkinitcpio.conf; mkinitcpio -P",
        "vfio_pci out of MODULES of /etc/mkinitcpio.conf; mkinitcpio -P",
    ),
    "usr/bin/dracut": (
        'dracut --force --regenerate-all --add-drivers "vfio-pci"',
        "dracut --force --regenerate-all",
    ),
}


class Noting(WritableHost):
    """A tree that notes its commands, or lets them fail."""

    def __init__(self, root: Path, failing: str = "") -> None:
        super().__init__(str(root))
        self.ran: list[str] = []
        self.failing = failing

    def run(self, argv: list[str], seconds: float = 30) -> str:
        self.ran.append(argv[0])
        if argv[0] == self.failing:
            raise HookError(f"{argv[0]} failed")
        return ""


def files(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(("tree", "texts", "ran"), WRITTEN.values(), ids=WRITTEN)
def test_what_is_written_is_taken_back_exactly(
    tmp_path: Path, tree: Tree, texts: list[tuple[str, str]], ran: list[str]
) -> None:
    host = Noting(grow(tmp_path, {**BOOTED, **tree}))
    before = files(tmp_path)
    work = planned(host, WANTED)
    assert files(tmp_path) == before
    apply(host, ALL, work)
    after = files(tmp_path)
    for path, text in texts:
        assert text in after[path]
    assert "options vfio-pci ids=10de:2504\n" in after[MODPROBE[1:]]
    assert host.ran == ran
    # Another process, after a reboot, has nothing but the journal.
    again = Noting(tmp_path)
    assert revert(again) == []
    assert again.ran == ran
    assert files(tmp_path) == before


@pytest.mark.parametrize("edited", [0, 1])
def test_a_file_that_was_edited_since_is_left_alone_and_named(tmp_path: Path, edited: int) -> None:
    host = Noting(grow(tmp_path, {**BOOTED, **UPDATE, "boot/loader/entries/arch.conf": ENTRY}))
    work = planned(host, WANTED)
    apply(host, ALL, work)
    path = tmp_path / work.edits[edited].path[1:]
    path.write_text("mine\n")
    assert revert(host) == [work.edits[edited].path]
    assert path.read_text() == "mine\n"
    others = [edit for edit in work.edits if edit != work.edits[edited]]
    for edit in others:
        now = tmp_path / edit.path[1:]
        assert (now.read_text() if now.exists() else None) == edit.before
    assert not host.exists(FILE)


def test_what_this_boot_has_from_parameters_taken_back_is_needed_for_the_next(
    tmp_path: Path,
) -> None:
    """They are taken back and written anew, perhaps for another VM, without a boot in between."""
    tree = {**BOOTED, **GRUB, "sys/firmware/acpi/tables/DMAR": ""}
    host = Noting(grow(tmp_path, tree))
    wanted = needs(host, None)
    apply(host, (Wanted("", tuple(wanted)),), planned(host, wanted))
    words = [need.text for need in wanted]
    assert words == ["intel_iommu=on", "iommu=pt"]
    grow(tmp_path, {"sys/kernel/iommu_groups/1/type": "identity"})
    (tmp_path / "proc/cmdline").write_text(f"root=UUID=1 ro quiet {' '.join(words)}")
    # They are ours, so another VM that is written beside them needs them, too.
    assert [need.text for need in needs(host, None)] == words
    revert(host)
    assert [need.text for need in needs(host, None)] == words
    # A boot without them has no such file.
    (tmp_path / REVERTED[1:]).unlink()
    assert needs(host, None) == []


@pytest.mark.parametrize("cut", range(4))
def test_killed_between_two_files_it_is_taken_back(tmp_path: Path, cut: int) -> None:
    host = Noting(grow(tmp_path, {**BOOTED, **GRUB, **UPDATE}))
    before = files(tmp_path)
    work = planned(host, WANTED)
    apply(host, ALL, work)
    for edit in work.edits[cut:]:
        if edit.before is None:
            (tmp_path / edit.path[1:]).unlink()
    assert revert(host) == []
    assert files(tmp_path) == before


def test_a_file_that_changed_before_it_is_written_is_not_lost(tmp_path: Path) -> None:
    host = Noting(grow(tmp_path, {**BOOTED, "etc/kernel/cmdline": "a\n"}))
    work = planned(host, WANTED[:1])
    (tmp_path / "etc/kernel/cmdline").write_text("b\n")
    with pytest.raises(HookError, match="changed in the meantime"):
        apply(host, ALL, work)
    assert (tmp_path / "etc/kernel/cmdline").read_text() == "b\n"


@pytest.mark.parametrize(("tree", "said"), TOLD.values(), ids=TOLD)
def test_what_is_not_written_is_told(tmp_path: Path, tree: Tree, said: str) -> None:
    work = planned(Host(str(grow(tmp_path, {**BOOTED, **tree}))), WANTED[:1])
    assert not work.edits
    assert said in work.told[0]


@pytest.mark.parametrize(("tool", "said"), INITRAMFS.items())
def test_the_initramfs_of_others_is_told(tmp_path: Path, tool: str, said: tuple[str, str]) -> None:
    work = planned(Host(str(grow(tmp_path, {**BOOTED, **GRUB, tool: ""}))), WANTED)
    assert (work.told[-1], work.told_back[-1]) == said


def test_an_unknown_loader_is_told_with_the_parameters(tmp_path: Path) -> None:
    with pytest.raises(HookError, match="intel_iommu=on"):
        planned(Host(str(grow(tmp_path, BOOTED))), WANTED)


def test_damage_in_the_journal_is_told(tmp_path: Path) -> None:
    host = Noting(grow(tmp_path, {**BOOTED, FILE[1:]: "{"}))
    with pytest.raises(HookError, match="is damaged"):
        revert(host)
    with pytest.raises(HookError, match="is damaged"):
        apply(host, ALL, Work("GRUB", (Edit("/etc/a", None, "b"),)))


def test_the_entry_from_before_is_of_the_running_kernel_and_never_the_first(tmp_path: Path) -> None:
    folder = "boot/loader/entries"
    older = "title Old\nsort-key debian\nversion 6.1\nlinux /6.1/linux\noptions ro\n"
    running = "title Now\nsort-key debian\nversion 6.12.0-1-amd64\noptions ro"
    tree = {f"{folder}/1-old.conf": older, f"{folder}/2-now.conf": running}
    work = planned(Host(str(grow(tmp_path, {**BOOTED, **tree}))), WANTED[:1])
    assert (work.edits[0].path, work.edits[0].after) == (
        f"/{folder}/aa-vfio-hooks-before.conf",
        "title As before vfio-hooks boot\nsort-key zz-vfio-hooks\nversion 6.12.0-1-amd64\n"
        "options ro\n",
    )


def two_vms(first: Wanted, second: Wanted) -> list[str]:
    return [need.text for need in together([first, second])]


def wanted(vm: str, *texts: str, devices: tuple[str, ...] = ()) -> Wanted:
    return Wanted(vm, tuple(Need(text, vm) for text in texts), devices)


PAGES = "hugepagesz=1G hugepages="
IRQS = "isolcpus=managed_irq,"
IDS = "options vfio-pci ids="
TOGETHER: list[tuple[list[str], list[str], list[str]]] = [
    (["iommu=pt"], ["iommu=pt"], ["iommu=pt"]),
    (["iommu=pt"], ["intel_iommu=on", "iommu=pt"], ["iommu=pt", "intel_iommu=on"]),
    ([f"{PAGES}8"], [f"{PAGES}16"], [f"{PAGES}24"]),
    ([f"{IRQS}0-3"], [f"{IRQS}2-5,8"], [f"{IRQS}0-5,8"]),
    ([f"{IDS}10de:2504"], [f"{IDS}1002:1"], [f"{IDS}1002:1,10de:2504"]),
    ([], [f"{PAGES}16"], [f"{PAGES}16"]),
]


@pytest.mark.parametrize(("first", "second", "both"), TOGETHER)
def test_a_word_that_the_kernel_takes_once_is_for_both_vms(
    first: list[str], second: list[str], both: list[str]
) -> None:
    assert two_vms(wanted("a", *first), wanted("b", *second)) == both


@given(
    st.lists(
        st.builds(
            str.__add__,
            st.sampled_from((PAGES, IRQS, IDS)),
            st.text("0123456789abc,-: ", max_size=6),
        ),
        max_size=3,
    )
)
def test_whatever_a_user_adds_is_taken_as_it_is(added: list[str]) -> None:
    one = wanted("a", f"{PAGES}8", f"{IRQS}0-3", f"{IDS}10de:2504", "iommu=pt")
    texts = two_vms(one, wanted("", *added))
    assert "iommu=pt" in texts
    for need in together([wanted("", *added)]):
        is_given(need.text, texts)
        other(need.text, texts)


def test_vms_with_the_same_card_never_run_together_so_the_larger_one_counts() -> None:
    card, nic = ("0000:01:00.0",), ("0000:02:00.0",)
    three = [
        wanted("a", f"{PAGES}8", devices=card),
        wanted("b", f"{PAGES}16", devices=(*card, *nic)),
        wanted("c", f"{PAGES}9", devices=nic),
    ]
    assert [need.text for need in together(three)] == [f"{PAGES}17"]
    assert [need.text for need in together(three[:2])] == [f"{PAGES}16"]


GIVEN: list[tuple[str, str, str | None]] = [
    # What the host is booted with, its domain's need, and what is in its place (None: not needed).
    ("", "iommu=pt", ""),
    ("iommu=pt", "iommu=pt", None),
    ("default_hugepagesz=1G hugepages=8", f"{PAGES}8", None),
    ("hugepagesz=1G hugepages=9", f"{PAGES}8", None),
    ("hugepagesz=1G hugepages=4", f"{PAGES}8", "hugepagesz=1G hugepages=4"),
    ("hugepagesz=2M hugepages=400", f"{PAGES}8", ""),
    ("isolcpus=domain,managed_irq,0-7", f"{IRQS}2-5", None),
    ("isolcpus=managed_irq,4-7", f"{IRQS}2-5", "isolcpus=managed_irq,4-7"),
    ("isolcpus=2-5", f"{IRQS}2-5", ""),
]


@pytest.mark.parametrize(("line", "text", "instead"), GIVEN)
def test_what_the_user_has_given_already(line: str, text: str, instead: str | None) -> None:
    assert is_given(text, [f"root=/dev/sda1 {line}"]) == (instead is None)
    if instead is not None:
        assert other(text, [f"root=/dev/sda1 {line}"]) == instead


SOFTDEP = "softdep nvidia pre: vfio-pci"


@pytest.mark.parametrize(
    ("lines", "given"),
    [
        (["softdep nvidia pre: vfio_pci", "softdep nvidia post: nvidia-uvm"], True),
        (["softdep nvidia post: nvidia-uvm", "softdep nvidia pre: vfio-pci"], False),
        (["softdep nvidia post: nvidia-uvm pre: i915 vfio-pci"], True),
        (["softdep nvidia pre: i915 post: vfio-pci"], False),
        (["softdep nvidia_drm pre: vfio-pci"], False),
        (["softdep nvidia post: vfio-pci"], False),
    ],
)
def test_of_a_modules_softdeps_the_first_one_counts(lines: list[str], given: bool) -> None:
    assert is_given(SOFTDEP, lines) == given


@pytest.mark.parametrize(
    ("text", "lines", "counts"),
    [
        (f"{IDS}10de:1c82", [f"{IDS}10de:1c82", f"{IDS}1002:1"], 1),
        (f"{IDS}10de:1c82", [f"{IDS}10de:1c82", "ro vfio_pci.ids=1002:1 quiet"], 1),
        (f"{IRQS}4-7", [f"{IRQS}1 {IRQS}4-7"], 0),
    ],
)
def test_of_several_words_of_a_kind_only_one_counts(
    text: str, lines: list[str], counts: int
) -> None:
    assert not is_given(text, lines)
    assert other(text, lines) in lines[counts]
    assert is_given(text, lines[::-1]) == (len(lines) > 1)


BESIDE: list[tuple[str, str, str]] = [
    # What is needed, what the user has in its place, and what is to be there for both.
    (f"{IRQS}2-5", f"{IRQS}4-7", f"{IRQS}2-7"),
    (f"{IRQS}4-7", f"{IRQS}1-3", f"{IRQS}1-7"),
    (f"{IRQS}4-7", "isolcpus=domain,managed_irq,1-2", "isolcpus=domain,managed_irq,1-2,4-7"),
    (f"{IDS}10de:1c82", f"{IDS}1002:1", f"{IDS}1002:1,10de:1c82"),
    (
        f"{IDS}10de:1c82",
        "options vfio_pci disable_vga=1 ids=1002:1",
        "options vfio_pci disable_vga=1 ids=1002:1,10de:1c82",
    ),
    (f"{IDS}10de:1c82", "vfio-pci.ids=1002:1", "vfio-pci.ids=1002:1,10de:1c82"),
    (f"{PAGES}8", f"{PAGES}4", f"{PAGES}8"),
    (SOFTDEP, "softdep nvidia post: nvidia-uvm", f"{SOFTDEP} post: nvidia-uvm"),
    (SOFTDEP, "softdep nvidia* pre: i915", f"{SOFTDEP} i915"),
]


@pytest.mark.parametrize(("text", "instead", "both"), BESIDE)
def test_a_second_word_of_the_users_own_kind_is_told_and_not_written(
    tmp_path: Path, text: str, instead: str, both: str
) -> None:
    host = Host(str(grow(tmp_path, {**BOOTED, **GRUB})))
    assert other(text, [instead]) == instead
    work = planned(host, [*WANTED, Need(text, "x", text.startswith((IDS, SOFTDEP)), instead)])
    assert not any(text in (edit.after or "") for edit in work.edits)
    assert f"replace {instead} with {both}: only one" in work.told[-1]
    assert is_given(text, [both])


def test_more_pages_than_the_host_can_start_with_are_refused(tmp_path: Path) -> None:
    grow(tmp_path, {**BOOTED, **GRUB, "proc/meminfo": "MemTotal: 33554432 kB"})
    host = Host(str(tmp_path))
    assert planned(host, [Need(f"{PAGES}30", "x")]).parameters == ("hugepagesz=1G", "hugepages=30")
    with pytest.raises(HookError, match="31 pages of 1 GiB are too many for a host with 32 GiB"):
        planned(host, [Need(f"{PAGES}31", "x")])


def change(host: WritableHost, wanted: tuple[Wanted, ...]) -> None:
    work = planned(Before(host, applied(host).work.edits), together(wanted))
    apply(host, wanted, work)


FIRST = wanted("win11", "iommu=pt", f"{PAGES}8", devices=("0000:01:00.0",))
MODPROBED = Need(f"{IDS}10de:2504", "early", is_modprobe=True)
SECOND = Wanted("linux", (*wanted("linux", "iommu=pt", f"{IRQS}2-5").needs, MODPROBED))


@pytest.mark.parametrize("booted", [False, True], ids=["in one boot", "with a boot between"])
@pytest.mark.parametrize(("tree", "texts", "ran"), WRITTEN.values(), ids=WRITTEN)
def test_a_second_vm_extends_what_is_written_and_each_is_taken_back(
    tmp_path: Path, tree: Tree, texts: list[tuple[str, str]], ran: list[str], booted: bool
) -> None:
    del texts, ran
    host = Noting(grow(tmp_path, {**BOOTED, **tree}))
    before = files(tmp_path)
    change(host, (FIRST,))
    one = files(tmp_path)
    if booted:
        line = tmp_path / "proc/cmdline"
        line.write_text(f"{line.read_text()} {' '.join(applied(host).work.parameters)}")
        one["proc/cmdline"] = line.read_text()
    change(host, extended(applied(host).wanted, SECOND))
    two = files(tmp_path)
    assert [one.vm for one in applied(host).wanted] == ["win11", "linux"]
    assert any(
        f"{PAGES}8 {IRQS}2-5\n" in text or f'{PAGES}8 {IRQS}2-5"' in text for text in two.values()
    )
    assert MODPROBED.text in two[MODPROBE[1:]]
    fallback = [text for path, text in two.items() if "before" in path or "42_" in path]
    assert fallback
    assert not any("hugepages" in text for text in fallback)
    # The second one goes: as it was with the first alone.
    change(host, applied(host).wanted[:1])
    assert {path: text for path, text in files(tmp_path).items() if path != REVERTED[1:]} == one
    change(host, extended(applied(host).wanted, SECOND))
    assert files(tmp_path) == two
    assert revert(host) == []
    left = files(tmp_path)
    left.pop(REVERTED[1:], "")
    assert left == {**before, "proc/cmdline": one["proc/cmdline"]}


def test_what_a_vm_needs_now_takes_the_place_of_what_it_needed(tmp_path: Path) -> None:
    added = Wanted("win11", (*FIRST.needs, Need("a=1", "--add")))
    grown = extended((added,), wanted("win11", "iommu=pt", f"{PAGES}16"))
    assert [need.text for need in together(grown)] == ["iommu=pt", f"{PAGES}16", "a=1"]
    assert extended((FIRST,), Wanted("win11", ())) == ()


@pytest.mark.parametrize("cut", range(3))
def test_killed_while_it_is_extended_all_is_taken_back(tmp_path: Path, cut: int) -> None:
    host = Noting(grow(tmp_path, {**BOOTED, **UPDATE, "boot/loader/entries/arch.conf": ENTRY}))
    before = files(tmp_path)
    change(host, (FIRST,))
    one = files(tmp_path)

    class Killed(BaseException):
        pass

    def killed(name: str, text: str, mode: int = 0o644) -> None:
        left.pop()
        if not left:
            raise Killed
        WritableHost.keep(host, name, text, mode)

    left = list(range(cut + 2))
    host.keep = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        change(host, (FIRST, SECOND))
    assert files(tmp_path) != one
    again = Noting(tmp_path)
    assert revert(again) == []
    assert files(tmp_path) == before


def test_where_a_tool_fails_the_first_vm_keeps_what_it_has(tmp_path: Path) -> None:
    host = Noting(grow(tmp_path, {**BOOTED, **GRUB, **UPDATE}))
    change(host, (FIRST,))
    one = files(tmp_path)
    failed: list[str] = []

    def run(argv: list[str], seconds: float = 30) -> str:
        failed.append(argv[0])
        if len(failed) == 2:
            raise HookError("update-grub failed")
        return ""

    host.run = run  # type: ignore[method-assign]
    with pytest.raises(HookError, match="update-grub"):
        change(host, (FIRST, SECOND))
    assert files(tmp_path) == one
    assert failed == ["update-initramfs", "update-grub"] * 2


class Killed(BaseException):
    """Ends a program between two writes."""


class Dying(Noting):
    """One on which a program ends before the last of so many writes and commands."""

    def __init__(self, root: Path, left: int) -> None:
        super().__init__(root)
        self.left = left

    def keep(self, name: str, text: str, mode: int = 0o644) -> None:
        self._live()
        super().keep(name, text, mode)

    def run(self, argv: list[str], seconds: float = 30) -> str:
        self._live()
        return super().run(argv, seconds)

    def _live(self) -> None:
        self.left -= 1
        if not self.left:
            raise Killed


BOTH = (FIRST, wanted("linux", f"{PAGES}16", "a=1"))


@pytest.mark.parametrize(("tree", "texts", "ran"), WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("had", [(), (FIRST,), BOTH], ids=["at first", "beside", "one of both"])
def test_what_was_cut_off_anywhere_is_done_again_or_taken_back(
    tmp_path: Path,
    tree: Tree,
    texts: list[tuple[str, str]],
    ran: list[str],
    had: tuple[Wanted, ...],
) -> None:
    del texts, ran
    then = BOTH if had == (FIRST,) else (FIRST,)
    before = files(grow(tmp_path / "before", {**BOOTED, **tree}))
    done = Noting(grow(tmp_path / "done", {**BOOTED, **tree}))
    change(done, had)
    done.ran.clear()
    change(done, then)
    for left in count(1):
        root = grow(tmp_path / str(left), {**BOOTED, **tree})
        change(Noting(root), had)
        try:
            change(Dying(root, left), then)
            break
        except Killed:
            pass
        again = Noting(root)
        change(again, then)
        # Only after the last write is there nothing more to do.
        assert again.ran == done.ran or (left > 1 and not again.ran)
        assert files(root) == files(tmp_path / "done")
        revert(again)
        assert files(root) == before
    assert left > 3


@pytest.mark.parametrize("had", [(), (FIRST,)], ids=["the first VM", "a second VM"])
@pytest.mark.parametrize("failing", ["update-grub", "update-initramfs"])
def test_a_tool_that_goes_on_failing_is_told_and_the_next_apply_goes_on(
    tmp_path: Path, had: tuple[Wanted, ...], failing: str
) -> None:
    """As with a full /boot."""
    host = Noting(grow(tmp_path, {**BOOTED, **GRUB, **UPDATE}))
    change(host, had)
    before = files(tmp_path)
    host.failing = failing
    with pytest.raises(HookError) as caught:
        change(host, (*had, SECOND))
    assert (caught.value.problem, caught.value.hint) == (
        f"{failing} failed",
        f"the files are as they were before, but {failing} failed: fix that, then run "
        "update-initramfs -u -k all && update-grub",
    )
    assert files(tmp_path) == before
    assert applied(host).wanted == had
    host.failing = ""
    change(host, (*had, SECOND))
    assert applied(host).wanted == (*had, SECOND)


def test_a_file_edited_since_is_named_before_anything_is_extended(tmp_path: Path) -> None:
    host = Noting(grow(tmp_path, {**BOOTED, **GRUB}))
    change(host, (FIRST,))
    (tmp_path / "etc/default/grub.d/vfio-hooks.cfg").write_text("mine\n")
    now = files(tmp_path)
    with pytest.raises(HookError, match=r"grub.d/vfio-hooks.cfg was edited since"):
        change(host, (FIRST, SECOND))
    assert files(tmp_path) == now


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["show", "--add", "a=1"], 0, "what is needed at boot is written already, for win11, the"),
        (["revert", "other"], 1, "nothing is written for other"),
        (["revert", "win11"], 0, "written; it takes effect at the next boot"),
    ],
)
def test_what_is_written_for_one_vm_is_named(
    tmp_path: Path, command: Command, words: list[str], code: int, said: str
) -> None:
    host = Noting(grow(tmp_path, {**BOOTED, "etc/kernel/cmdline": "ro\n"}))
    change(host, (FIRST, wanted("", "a=1")))
    result = command("boot", *words, "--root", str(tmp_path))
    assert result.code == code
    assert said in result.out + result.err
    is_left = words[1] != "win11"
    assert ("iommu=pt" in (tmp_path / "etc/kernel/cmdline").read_text()) == is_left
    assert "a=1" in (tmp_path / "etc/kernel/cmdline").read_text()


@pytest.mark.parametrize(
    ("loader", "edited", "what"),
    [
        ({"etc/kernel/cmdline": "ro\n"}, False, "everything"),
        ({"etc/kernel/cmdline": "ro\n"}, True, "everything else"),
        # The parameters are the user's to remove.
        ({"usr/sbin/grubby": ""}, False, "everything else"),
    ],
)
def test_what_is_as_before_is_said(
    tmp_path: Path, command: Command, loader: dict[str, str], edited: bool, what: str
) -> None:
    change(Noting(grow(tmp_path, {**BOOTED, **loader})), (FIRST,))
    if edited:
        (tmp_path / "etc/kernel/cmdline").write_text("mine\n")
    result = command("boot", "revert", "--root", str(tmp_path))
    assert result.code == edited
    assert result.out.splitlines()[-1].startswith(f"{what} is as it was before;")


@pytest.mark.parametrize("is_off", [True, False])
def test_an_iommu_that_no_parameter_switches_on_is_told(
    tmp_path: Path, command: Command, is_off: bool
) -> None:
    group = {} if is_off else {"sys/kernel/iommu_groups/1/type": "identity"}
    grow(tmp_path, {**BOOTED, **GRUB, **group})
    result = command("boot", "show", "--root", str(tmp_path))
    assert result.code == 0 and result.out.startswith("everything that is needed at boot is there")
    assert ("but the IOMMU is off: vfio-hooks check says what to do" in result.out) == is_off


@pytest.mark.parametrize("word", ["", "a b", 'a="b c"', 'a="b', "$(x)", "`x`", "a;b", "a\\", "a\n"])
def test_a_word_that_a_loaders_file_would_take_for_something_else_is_refused(
    tmp_path: Path, command: Command, word: str
) -> None:
    grow(tmp_path, {**BOOTED, **GRUB})
    before = files(tmp_path)
    result = command("boot", "apply", "--yes", "--root", str(tmp_path), f"--add={word}")
    assert result.code == 2
    assert "is not one plain kernel parameter, such as default_hugepagesz=1G;" in result.err
    assert files(tmp_path) == before


WORDS = st.lists(st.sampled_from(["quiet", "iommu=pt", 'a="b c"', "root=UUID=1"]), max_size=4)


@given(WORDS, st.lists(st.sampled_from(["iommu=pt", "x=1"]), max_size=2, unique=True))
def test_parameters_are_added_once(line: list[str], wanted: list[str]) -> None:
    made = add(" ".join(line), wanted)
    assert made.startswith(" ".join(line))
    for word in wanted:
        assert made.split().count(word) == max(1, line.count(word))
    assert add(made, wanted) == made
    assert without(made, [word for word in wanted if word not in line]) == " ".join(line)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("ro quiet\n# don't: a=1\n", "ro quiet\n# don't: a=1\na=1 b=1\n"),
        ("# a=1\nro\nb=1", "# a=1\nro\nb=1 a=1\n"),
        ("ro a=1\nquiet b=1\n", "ro a=1\nquiet b=1\n"),
        ("  # a=1\n", "  # a=1\na=1 b=1\n"),
    ],
)
def test_a_comment_is_no_parameter_and_takes_none(tmp_path: Path, before: str, after: str) -> None:
    host = Noting(grow(tmp_path, {**BOOTED, "etc/kernel/cmdline": before}))
    change(host, (wanted("", "a=1", "b=1"),))
    assert (tmp_path / "etc/kernel/cmdline").read_text() == after


NVIDIA: Tree = {
    **{
        f"sys/bus/pci/devices/{address}/{name}": text
        for address, ids in (("0000:04:00.0", "0x2504"), ("0000:05:00.0", "0x1c82"))
        for name, text in (
            ("vendor", "0x10de"),
            ("device", ids),
            ("class", "0x030000"),
            ("driver", "→ ../../../drivers/nvidia"),
        )
    },
}
OF_1_GIB = "<memoryBacking><hugepages><page size='1' unit='G'/></hugepages></memoryBacking>"
NEEDED: list[tuple[Tree, str, list[str]]] = [
    ({"sys/firmware/acpi/tables/DMAR": ""}, "", ["intel_iommu=on", "iommu=pt"]),
    ({"sys/firmware/acpi/tables/IVRS": ""}, "", []),
    ({"sys/kernel/iommu_groups/1/type": "DMA-FQ"}, "", ["iommu=pt"]),
    ({"sys/kernel/iommu_groups/1/type": "identity"}, "", []),
    (
        {"sys/firmware/acpi/tables/DMAR": "", "proc/cmdline": "quiet intel_iommu=on iommu=pt"},
        "",
        [],
    ),
    ({}, OF_1_GIB, ["hugepagesz=1G hugepages="]),
    ({}, "<memoryBacking><hugepages/></memoryBacking>", []),
]


@pytest.mark.parametrize(("tree", "xml", "wanted"), NEEDED)
def test_what_is_needed(tmp_path: Path, tree: Tree, xml: str, wanted: list[str]) -> None:
    host = Host(str(grow(tmp_path, {**BOOTED, **tree})))
    found = [one.text for one in needs(host, parse(win11(xml).encode()))]
    # The domain's pins say what they take of interrupts only where there is an NVMe.
    assert [one.rstrip("0123456789") if "pages=" in one else one for one in found] == wanted


def test_one_of_two_cards_of_nvidia_is_vfios_from_the_boot_on(tmp_path: Path) -> None:
    host = Host(str(grow(tmp_path, {**BOOTED, **NVIDIA})))
    domain = parse(win11(passed=("0000:04:00.0",)).encode())
    assert [one.text for one in needs(host, domain) if one.is_modprobe] == [
        "options vfio-pci ids=10de:2504",
        "softdep nvidia pre: vfio-pci",
    ]
    # What a driver says of itself counts, as nvidia's newer ones do, and no line of modprobe.d.
    release = (tmp_path / "proc/sys/kernel/osrelease").read_text().strip()
    grow(tmp_path, {f"lib/modules/{release}/modules.softdep": "softdep nvidia pre: ecdh_generic"})
    work = planned(host, needs(host, domain))
    assert [edit.after for edit in work.edits if "softdep" in (edit.after or "")] == []
    assert work.told[-1].startswith("have the initramfs load vfio-pci ahead of nvidia: ")
    # The kernel's command line comes after all files of modprobe.d.
    grow(tmp_path, {"proc/cmdline": "quiet vfio-pci.ids=1002:1"})
    told = planned(host, needs(host, domain)).told
    where, both = "in the kernel's command line", "vfio-pci.ids=1002:1,10de:2504"
    assert any(one.startswith(f"{where}, replace vfio-pci.ids=1002:1 with {both}:") for one in told)
    (tmp_path / "sys/bus/pci/devices/0000:05:00.0/device").write_text("0x2504")
    assert not [one for one in needs(host, domain) if one.is_modprobe]


def test_an_install_line_is_not_switched_off(tmp_path: Path) -> None:
    """Debian's nvidia driver has one, and its module has another name."""
    line = "install nvidia modprobe -i nvidia-current $CMDLINE_OPTS"
    tree = {**BOOTED, **NVIDIA, "etc/modprobe.d/nvidia.conf": line}
    host = Host(str(grow(tmp_path, tree)))
    work = planned(host, needs(host, parse(win11(passed=("0000:04:00.0",)).encode())))
    assert [edit.path for edit in work.edits if "softdep" in (edit.after or "")] == []
    assert work.told[-1].startswith("have the initramfs load vfio-pci ahead of nvidia: ")
    assert work.told[-1].endswith("install line that loads it, in /etc/modprobe.d/nvidia.conf")
    assert work.told_back[0].startswith("take vfio-pci out of the list of modules that the initram")


def test_show_changes_nothing_and_shows_a_difference(tmp_path: Path, command: Command) -> None:
    tree = {**KERNELS, "sys/firmware/acpi/tables/DMAR": "", "etc/kernel/cmdline": "ro\n"}
    grow(tmp_path, {**BOOTED, **tree})
    before = files(tmp_path)
    result = command("boot", "show", "--root", str(tmp_path))
    assert (result.code, result.err) == (0, "")
    for line in ("-ro", "+ro intel_iommu=on iommu=pt", "then: kernel-install add 6.12.0-1-amd64 "):
        assert line in result.out
    assert files(tmp_path) == before


@pytest.mark.parametrize("booted", [False, True], ids=["in one boot", "with a boot between"])
@pytest.mark.parametrize("tree", [tree for tree, _ in TOLD.values()], ids=TOLD)
def test_pages_of_two_vms_are_told_as_one_count(
    tmp_path: Path, command: Command, tree: Tree, booted: bool
) -> None:
    before = files(grow(tmp_path / "host", {**BOOTED, **tree}))
    plain = before["proc/cmdline"]

    def boot(count: int) -> None:
        words = f" {PAGES}{count}" if count else ""
        (tmp_path / "host/proc/cmdline").write_text(f"{plain.strip()}{words}\n")

    def counts(*words: str) -> list[str]:
        """The numbers of pages that the user is told to set."""
        result = command("boot", *words, "--root", str(tmp_path / "host"))
        assert (result.code, result.err) == (0, "")
        told = [line for line in result.out.splitlines() if "you have to do yourself" in line]
        return [found for line in told for found in re.findall(r"hugepages=(\d+)", line)]

    def of(vm: str) -> str:
        (tmp_path / vm).write_text(win11(OF_1_GIB).replace("win11", vm))
        return f"--xml={tmp_path / vm}"

    assert counts("apply", of("win11")) == ["8"]
    assert counts("show", of("win11")) == ["8"]
    if booted:
        boot(8)
        assert counts("show", of("win11")) == []
    assert counts("apply", of("linux")) == ["8", "16"]
    boot(16)
    assert counts("apply", of("linux")) == []
    assert counts("revert", "win11") == ["16", "8"]
    assert counts("revert") == ["8"]
    boot(0)
    (tmp_path / "host" / REVERTED[1:]).unlink()
    assert files(tmp_path / "host") == before


def test_every_loader_is_tried_here() -> None:
    names = {name.split()[0] for name in (*WRITTEN, *TOLD)}
    assert names == {loader.name for loader in LOADERS}
