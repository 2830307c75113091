"""vfio-hooks-check(7), out of the rules."""

from vfio_hooks import __version__
from vfio_hooks.check import FIRST_RANK, guest, rules
from vfio_hooks.check.rule import Area, Rule
from vfio_hooks.manual.advice import Advice
from vfio_hooks.manual.advice_guide import GUIDE
from vfio_hooks.manual.advice_thread import THREAD
from vfio_hooks.manual.roff import Page

_DESCRIPTION = """\
`vfio-hooks check` tells what is wrong on a host, with the hook on it and in a domain's XML, or
could be better. Each finding has a name, which stays the same from version to version. An error
does not work; a warning costs something; a hint may make it better. "likely" and "possible" say
that it was concluded from something else, and may not be so.

A finding that is meant to be so is silenced by its name, in vm.toml for one VM or in
vfio-hooks.toml for all:

    [check]
    silence = ["name", "other-name"]

These are of the first rank: what they name keeps the VM from starting, loses data, or costs most
of what passthrough is for. {first}

With --why each finding says where it comes from. There "guide" is "VFIO: Tuning your Windows
gaming VM for optimal performance", and "forum" the thread "Increasing VFIO VGA Performance".

Parameters of the kernel's command line are written into /etc/default/grub, GRUB_CMDLINE_LINUX,
followed by update-grub, or wherever the boot loader has them. After a change below
/etc/modprobe.d the initramfs is built again: update-initramfs -u, mkinitcpio -P or dracut -f.

A finding of any name may also say that it could not be looked at, as a file is missing or only
for root to read. That is a hint.
"""
_TITLES: tuple[tuple[Area, str], ...] = (
    ("host", "FINDINGS ABOUT THE HOST"),
    ("hook", "FINDINGS ABOUT THE HOOK"),
    ("domain", "FINDINGS ABOUT A DOMAIN"),
)
_DOCUMENTS = (
    ("THE VFIO TUNING GUIDE, PIECE BY PIECE", GUIDE),
    ("THE FORUM THREAD ON VGA PERFORMANCE, PIECE BY PIECE", THREAD),
)


def page() -> str:
    made = Page(
        "vfio-hooks-check", 7, f"vfio-hooks {__version__}", "what vfio-hooks check can find"
    )
    made.section("DESCRIPTION")
    made.prose(_DESCRIPTION.format(first=", ".join(f"`{name}`" for name in FIRST_RANK) + "."))
    for area, title in _TITLES:
        made.section(title)
        for rule in rules():
            if rule.area == area:
                made.item([f"`{rule.name}` ({_kind(rule)})"], f"{rule.why}\n\nFrom: {rule.source}")
    made.section("IN THE GUEST")
    made.prose(
        "No rule sees what is inside of the guest. With a domain that is given a graphics card, "
        "check ends with:"
    )
    for advice in guest.ADVICE:
        made.item([r"*"], advice)
    for title, document in _DOCUMENTS:
        made.section(title)
        for heading, pieces in document.items():
            made.part(heading)
            for piece in pieces:
                made.item([piece.text], _answer(piece))
    made.section("SEE ALSO")
    made.prose("`vfio-hooks`(1), `vfio-hooks.toml`(5), `vfio-hooks-migration`(7)")
    return str(made)


def _answer(piece: Advice) -> str:
    names = ", ".join(f"`{name}`" for name in piece.findings)
    return f"{names}. {piece.note}" if names and piece.note else names or piece.note


def _kind(rule: Rule) -> str:
    return rule.level if rule.sure == "certain" else f"{rule.level}, {rule.sure}"
