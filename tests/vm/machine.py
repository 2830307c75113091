"""One running emulated host: start it, find it again, end it for sure."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import vfio_hooks
from tests.vm import cache, cpufreq, emulator, hardware, qmp, tools
from tests.vm.identity import kill, start_time
from tests.vm.image import Image
from tests.vm.process import VmError, last_line, poll
from tests.vm.release import Release
from tests.vm.ssh import Ssh

# Or what install.sh has made of one.
CHECKOUT = Path(vfio_hooks.__path__[0]).resolve().parent
NVME_SIZE = 256 << 20
BOOT_DEADLINE = 900.0
# What the kernel says when a boot on a busy machine went wrong for good: a CPU lost its
# timer, or nothing works without one. Both happen while the CPUs are started.
HOPELESS = ("Possible timer handling issue", "Kernel panic")
SILENT = 180.0  # s without a first line on the console: on a machine at rest it takes 5
# Succeeds when both drives can be used.
PLUGGED_IN = """\
end=$((SECONDS + 120))
until [ -b /dev/nvme0n1 ] && [ -b /dev/nvme1n1 ]; do
    [ "$SECONDS" -lt "$end" ] || { ls /dev/nvme* >&2; exit 1; }
    sleep 0.1
done
"""


class Stalled(VmError):
    """The guest does not finish booting; another try will."""


@dataclass(frozen=True)
class Machine:
    """A QEMU process: its number alone may be a stranger's later, its start time may not."""

    name: str
    suite: str
    image: str
    port: int
    pid: int
    started: str

    @property
    def folder(self) -> Path:
        """Sockets, logs and throwaway drives of this run."""
        return folder(self.name)

    @property
    def ssh(self) -> Ssh:
        """The way in."""
        image = Image(self.suite, Path(self.image))
        return Ssh(
            port=self.port,
            hostname=Release(self.suite).hostname,
            # Copies: the image may be replaced by a newer build while this one runs.
            identity=self.folder / image.identity.name,
            known_hosts=self.folder / image.known_hosts.name,
            folder=self.folder,
        )

    def alive(self) -> bool:
        """Whether the process still is the one that was started."""
        return start_time(self.pid) == self.started

    def console(self) -> str:
        """The kernel's console so far."""
        return _text(self.folder / "console.log")

    def wait_ready(self, deadline: float = BOOT_DEADLINE) -> None:
        """Wait until the guest has finished booting."""
        began = time.monotonic()

        def stalled() -> bool:
            console = self.console()
            silent = not console and time.monotonic() - began > SILENT
            return silent or any(words in console for words in HOPELESS)

        try:
            poll(
                lambda: not self.alive() or stalled() or self.ssh.answers(),
                f"{self.name} booted so far that ssh answers: this",
                deadline=deadline,
            )
        except VmError as error:
            raise Stalled(str(error)) from None
        if not self.alive():
            raise VmError(f"{self.name}: QEMU ended during the boot: {self.why_dead()}")
        if stalled():
            raise Stalled(f"{self.name}: its kernel hangs: {last_line(self.console())}; try again")
        state = self.ssh.run("systemctl is-system-running --wait", timeout=deadline)
        if state.stdout.strip() not in ("running", "degraded"):
            raise VmError(
                f"{self.name}: the boot ended in state {state.stdout.strip() or 'unknown'!r} "
                f"{last_line(state.stderr)}; its console said last: {last_line(self.console())}"
            )

    def plug_in(self) -> None:
        """Give a guest that is up the devices that can be plugged in only then."""
        for device in hardware.NVME_DEVICES:
            qmp.ask(self.folder, "device_add", **device)
        done = self.ssh.run(PLUGGED_IN, timeout=180)
        if done.returncode != 0:
            raise Stalled(f"{self.name}: its drives do not come: {last_line(done.stderr)}")

    def why_dead(self) -> str:
        """QEMU's own last words."""
        return last_line(_text(self.folder / "qemu.log"))

    def stop(self) -> None:
        """End QEMU and remove what the run left; nothing in it is worth a shutdown."""
        kill(self.pid, self.started)
        shutil.rmtree(self.folder, ignore_errors=True)


def folder(name: str) -> Path:
    """Where the machine `name` keeps its sockets and drives while it runs."""
    return cache.root() / "run" / name


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def find(name: str) -> Machine | None:
    """The running machine of that name; what a dead one left behind is removed."""
    record = _text(folder(name) / "machine.json")
    if not record:
        return None
    machine = Machine(**json.loads(record))
    if machine.alive():
        return machine
    machine.stop()
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(
    image: Image,
    name: str,
    *,
    wanted: hardware.Hardware | None = None,
    source: Path = CHECKOUT,
    keep_writes: bool = False,
    die_with_me: bool = True,
    disk: Path | None = None,
    memory: Path | None = None,
    has_loader: bool = False,
    efi: hardware.Efi | None = None,
) -> Machine:
    """Start the emulated host; the caller then waits for it with `wait_ready`.

    With `die_with_me` QEMU is killed by the kernel when the calling *thread* ends. `disk` stands
    in for the image's; with the `memory` of a saved guest that one goes on, see saved.py. With
    `has_loader` the disk starts by itself, with `efi` by OVMF.
    """
    with cache.locked("run"):
        running = find(name)
        if running is not None:
            raise VmError(f"{name} already runs (process {running.pid}); stop it first")
        shape = wanted or hardware.Hardware()
        qemu = emulator.provide()
        here = folder(name)
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir(parents=True)
        media = replace(
            _media(image, here, qemu, shape, source),
            keep_writes=keep_writes,
            disk=disk or image.disk,
            memory=memory,
            has_loader=has_loader,
            efi=efi,
        )
        tools.ensure("ssh", "setpriv")
        port = _free_port()
        release = Release(image.suite)
        words = [*qemu.qemu, *hardware.arguments(shape, media, release, port=port)]
        if die_with_me:
            words = [tools.program("setpriv"), "--pdeathsig", "KILL", "--", *words]
        with (here / "qemu.log").open("wb") as log:
            process = subprocess.Popen(
                words,
                cwd=here,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # TMPDIR: where QEMU keeps (unlinked) what the guest writes to its disk.
                env={**os.environ, **dict(qemu.environment), "TMPDIR": str(here)},
                start_new_session=True,
            )
        machine = Machine(
            name, image.suite, str(image.folder), port, process.pid, start_time(process.pid)
        )
        (here / "machine.json").write_text(json.dumps(asdict(machine)), encoding="utf-8")
    return machine


def boot(
    image: Image,
    name: str,
    *,
    wanted: hardware.Hardware | None = None,
    keep_writes: bool = False,
    die_with_me: bool = True,
    deadline: float = BOOT_DEADLINE,
    attempts: int = 3,
) -> Machine:
    """Start the emulated host and wait until it is up; a stalled boot is tried again."""
    for remaining in reversed(range(attempts)):
        machine = start(
            image, name, wanted=wanted, keep_writes=keep_writes, die_with_me=die_with_me
        )
        try:
            machine.wait_ready(deadline)
            if wanted is None or wanted.devices is None:
                machine.plug_in()
            return machine
        except BaseException as error:
            log = cache.root() / f"{name}-console.log"
            log.write_text(machine.console(), encoding="utf-8")
            machine.stop()
            if isinstance(error, VmError):
                error.add_note(f"its console is in {log}")
            if not isinstance(error, Stalled) or not remaining:
                raise
    raise AssertionError("attempts must be at least 1")


def _media(
    image: Image,
    here: Path,
    qemu: emulator.Emulator,
    shape: hardware.Hardware,
    source: Path,
) -> hardware.Media:
    for path in (image.identity, image.known_hosts):
        shutil.copy(path, here)
    drives = (here / "nvme0.img", here / "nvme1.img")
    for drive in drives:
        with drive.open("wb") as handle:
            handle.truncate(NVME_SIZE)
    return hardware.Media(
        kernel=image.kernel,
        initrd=image.initrd,
        disk=image.disk,
        nvme=drives,
        acpi_table=cpufreq.compiled(qemu, shape.topology.cpus, here),
        source=source,
    )
