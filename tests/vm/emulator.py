"""The outer QEMU: the machine's own when it will do, else one unpacked from Debian 13.

SR-IOV needs QEMU's `igb`, which Debian 12's QEMU does not have. An unpacked tree is run
through its own dynamic loader, so it needs no chroot and no mount, and nothing of it can
stay behind on the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.vm import cache, tools
from tests.vm.process import VmError, progress, run, run_logged

SUITE = "trixie"
PACKAGES = ("qemu-system-x86", "acpica-tools")
BUILD_VERSION = "1"
LIBRARIES = Path("usr/lib/x86_64-linux-gnu")


@dataclass(frozen=True)
class Emulator:
    """Command-line prefixes of QEMU and of iasl, the ACPI compiler."""

    qemu: tuple[str, ...]
    iasl: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]


def _unpacked(tree: Path) -> Emulator:
    loader = tree / LIBRARIES / "ld-linux-x86-64.so.2"
    # --argv0 is not given: QEMU looks for its data beside /proc/self/exe, which is the loader
    # here, so the data folders have to be named anyway.
    start = (str(loader), "--library-path", str(tree / LIBRARIES))
    data = (tree / "usr/share/qemu", tree / "usr/share/seabios")
    return Emulator(
        qemu=(*start, str(tree / "usr/bin/qemu-system-x86_64"))
        + tuple(word for folder in data for word in ("-L", str(folder))),
        iasl=(*start, str(tree / "usr/bin/iasl")),
        environment=(("QEMU_MODULE_DIR", str(tree / LIBRARIES / "qemu")),),
    )


def _installed() -> Emulator | None:
    """The machine's own QEMU and iasl, when both are there and QEMU knows igb."""
    qemu, iasl = tools.program("qemu-system-x86_64"), tools.program("iasl")
    if not (qemu.startswith("/") and iasl.startswith("/")):
        return None
    try:
        devices = run([qemu, "-device", "help"], "ask QEMU for its devices", timeout=30)
    except VmError:
        return None
    wanted = ('"igb"', '"bochs-display"', '"virtio-9p-pci"')
    if any(name not in devices for name in wanted):
        return None
    return Emulator(qemu=(qemu,), iasl=(iasl,), environment=())


def _check(found: Emulator) -> None:
    run(
        [*found.qemu, "-version"],
        "start the unpacked QEMU (remove it from the cache and build again)",
        timeout=30,
    )


def provide() -> Emulator:
    """A QEMU that can be the emulated host; unpacks one into the cache when needed."""
    own = _installed()
    if own is not None:
        return own
    tree = cache.root() / f"emulator-{cache.key([SUITE, *PACKAGES, BUILD_VERSION])}"
    if not tree.exists():
        with cache.locked("emulator"):
            if not tree.exists():
                _unpack(tree)
    return _unpacked(tree)


def _unpack(tree: Path) -> None:
    tools.ensure("mmdebstrap", "unshare", "setpriv")
    log = cache.root() / "emulator.log"
    log.unlink(missing_ok=True)
    with (
        progress(f"unpacking QEMU from Debian {SUITE}", 10),
        cache.new_entry("emulator", tree) as work,
    ):
        run_logged(
            [
                tools.program("mmdebstrap"),
                "--mode=root",
                "--variant=extract",
                "--format=directory",
                f"--include={','.join(PACKAGES)}",
                SUITE,
                str(work),
            ],
            "unpack QEMU for the emulated host",
            timeout=900,
            log=log,
        )
        work.chmod(0o755)
        _check(_unpacked(work))
