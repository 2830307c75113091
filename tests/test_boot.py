"""`boot`: what is needed, each loader's files, and the way back, on trees of files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.command import Command
from tests.patient import Tree, grow, win11
from vfio_hooks.boot import Edit, Work
from vfio_hooks.boot.journal import FILE, REVERTED, apply, revert
from vfio_hooks.boot.loaders import LOADERS, add
from vfio_hooks.boot.needs import MODPROBE, Need, needs
from vfio_hooks.cli.boot import planned
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
GRUB: Tree = {"usr/sbin/update-grub": "", "etc/default/grub": 'GRUB_CMDLINE_LINUX="quiet"\n'}
UPDATE: Tree = {"usr/sbin/update-initramfs": ""}
WANTED = [
    Need("intel_iommu=on", "off"),
    Need("options vfio-pci ids=10de:2504", "early", is_modprobe=True),
]
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
        ["update-grub", "update-initramfs"],
    ),
    "systemd-boot": (
        {**UPDATE, "boot/loader/entries/arch.conf": ENTRY},
        [
            ("boot/loader/entries/arch.conf", "options root=UUID=1 rw intel_iommu=on\n"),
            ("boot/loader/entries/vfio-hooks-before.conf", "options root=UUID=1 rw\n"),
        ],
        ["update-initramfs"],
    ),
    "kernel-install": (
        {**UPDATE, "etc/kernel/cmdline": "root=UUID=1 ro\n", "efi/loader/entries/a.conf": MADE},
        [
            ("etc/kernel/cmdline", "root=UUID=1 ro intel_iommu=on\n"),
            ("efi/loader/entries/vfio-hooks-before.conf", "title As before vfio-hooks boot\n"),
        ],
        ["kernel-install", "update-initramfs"],
    ),
    "kernel-install without a command line of its own": (
        {**UPDATE, "boot/efi/loader/entries/a.conf": MADE},
        [("etc/kernel/cmdline", "root=UUID=1 ro quiet intel_iommu=on\n")],
        ["kernel-install", "update-initramfs"],
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
INITRAMFS = {"usr/bin/mkinitcpio": "mkinitcpio -P", "usr/bin/dracut": "dracut --force"}


class Noting(WritableHost):
    """A tree whose commands are noted, or fail."""

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
    apply(host, work)
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
    apply(host, work)
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
    """Taken back to be written anew, for another VM, say, without a boot in between."""
    tree = {**BOOTED, **GRUB, "sys/firmware/acpi/tables/DMAR": ""}
    host = Noting(grow(tmp_path, tree))
    wanted = needs(host, None)
    apply(host, planned(host, wanted))
    words = [need.text for need in wanted]
    assert words == ["intel_iommu=on", "iommu=pt"]
    grow(tmp_path, {"sys/kernel/iommu_groups/1/type": "identity"})
    (tmp_path / "proc/cmdline").write_text(f"root=UUID=1 ro quiet {' '.join(words)}")
    assert needs(host, None) == []
    revert(host)
    assert [need.text for need in needs(host, None)] == words
    # A boot without them has no such file.
    (tmp_path / REVERTED[1:]).unlink()
    assert needs(host, None) == []


@pytest.mark.parametrize("failing", ["update-grub", "update-initramfs"])
def test_where_a_tool_fails_nothing_is_left(tmp_path: Path, failing: str) -> None:
    tree = grow(tmp_path, {**BOOTED, **GRUB, **UPDATE})
    before = files(tmp_path)
    host = Noting(tree)
    work = planned(host, WANTED)
    host.failing = failing
    with pytest.raises(HookError, match=failing):
        apply(host, work)
    host.failing = ""
    if host.exists(FILE):
        revert(host)
    assert files(tmp_path) == before


@pytest.mark.parametrize("cut", range(4))
def test_killed_between_two_files_it_is_taken_back(tmp_path: Path, cut: int) -> None:
    host = Noting(grow(tmp_path, {**BOOTED, **GRUB, **UPDATE}))
    before = files(tmp_path)
    work = planned(host, WANTED)
    apply(host, work)
    for edit in work.edits[cut:]:
        if edit.before is None:
            (tmp_path / edit.path[1:]).unlink()
    assert revert(host) == []
    assert files(tmp_path) == before


def test_a_file_that_changed_before_it_is_written_is_not_lost(tmp_path: Path) -> None:
    host = Noting(grow(tmp_path, {**BOOTED, "etc/kernel/cmdline": "a\n"}))
    work = planned(host, WANTED[:1])
    (tmp_path / "etc/kernel/cmdline").write_text("b\n")
    with pytest.raises(HookError, match="changed meanwhile"):
        apply(host, work)
    assert (tmp_path / "etc/kernel/cmdline").read_text() == "b\n"


@pytest.mark.parametrize(("tree", "said"), TOLD.values(), ids=TOLD)
def test_what_is_not_written_is_told(tmp_path: Path, tree: Tree, said: str) -> None:
    work = planned(Host(str(grow(tmp_path, {**BOOTED, **tree}))), WANTED[:1])
    assert not work.edits
    assert said in work.told[0]


@pytest.mark.parametrize(("tool", "said"), INITRAMFS.items())
def test_the_initramfs_of_others_is_told(tmp_path: Path, tool: str, said: str) -> None:
    work = planned(Host(str(grow(tmp_path, {**BOOTED, **GRUB, tool: ""}))), WANTED)
    assert said in work.told[-1]


def test_an_unknown_loader_is_told_with_the_parameters(tmp_path: Path) -> None:
    with pytest.raises(HookError, match="intel_iommu=on"):
        planned(Host(str(grow(tmp_path, BOOTED))), WANTED)


def test_damage_in_the_journal_is_told(tmp_path: Path) -> None:
    host = Noting(grow(tmp_path, {**BOOTED, FILE[1:]: "{"}))
    with pytest.raises(HookError, match="is damaged"):
        revert(host)
    with pytest.raises(HookError, match="changed already"):
        apply(host, Work("GRUB", (Edit("/etc/a", None, "b"),)))


WORDS = st.lists(st.sampled_from(["quiet", "iommu=pt", 'a="b c"', "root=UUID=1"]), max_size=4)


@given(WORDS, st.lists(st.sampled_from(["iommu=pt", "x=1"]), max_size=2, unique=True))
def test_parameters_are_added_once(line: list[str], wanted: list[str]) -> None:
    made = add(" ".join(line), wanted)
    assert made.startswith(" ".join(line))
    for word in wanted:
        assert made.split().count(word) == max(1, line.count(word))
    assert add(made, wanted) == made


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
    (
        {},
        "<memoryBacking><hugepages><page size='1' unit='G'/></hugepages></memoryBacking>",
        ["hugepagesz=1G", "hugepages="],
    ),
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
    (tmp_path / "sys/bus/pci/devices/0000:05:00.0/device").write_text("0x2504")
    assert not [one for one in needs(host, domain) if one.is_modprobe]


def test_show_changes_nothing_and_shows_a_difference(tmp_path: Path, command: Command) -> None:
    tree = {"sys/firmware/acpi/tables/DMAR": "", "etc/kernel/cmdline": "ro\n"}
    grow(tmp_path, {**BOOTED, **tree})
    before = files(tmp_path)
    result = command("boot", "show", "--root", str(tmp_path))
    assert (result.code, result.err) == (0, "")
    for line in ("-ro", "+ro intel_iommu=on iommu=pt", "then: kernel-install add 6.12.0-1-amd64 "):
        assert line in result.out
    assert files(tmp_path) == before


def test_every_loader_is_tried_here() -> None:
    names = {name.split()[0] for name in (*WRITTEN, *TOLD)}
    assert names == {loader.name for loader in LOADERS}
