"""The command line of the emulated host: build, boot, shell, run, status, stop."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tests.vm import build, iommufd, machine, saved
from tests.vm.hardware import Hardware, Topology
from tests.vm.process import VmError
from tests.vm.release import RELEASES, USER


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m tests.vm", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    helps = {
        "build": "build what the cache does not have: images, and saved guests for the tests",
        "iommufd": "build the kernel modules that test_iommufd.py needs",
        "boot": "boot a guest and leave it running",
        "shell": "a shell in a running guest",
        "run": "a command in a running guest; its exit code is passed on",
        "status": "what is built and what runs",
        "stop": "end running guests",
    }
    single = {"shell", "run"}
    for name, text in helps.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--guest",
            choices=[*RELEASES, *([] if name in single else ["all"])],
            default="trixie" if name in single | {"boot"} else "all",
            help="which release (default: %(default)s)",
        )
        if name in single:
            command.add_argument("--user", default="root", help=f"root (default) or {USER}")
        if name == "run":
            command.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    boot = commands.choices["boot"]
    boot.add_argument("--append", default="", help="more kernel command line")
    boot.add_argument("--cores", type=int, default=2, help="cores per socket (default: 2)")
    return parser


def _build(suites: list[str]) -> None:
    """One after the other: the machine and its mirror are the limit, not the waiting."""
    failures = []
    for suite in suites:
        try:
            print(f"{suite}: {saved.provide(suite).folder}", flush=True)
        except VmError as error:
            # The others are of use without it.
            failures.append(f"{suite}: {error}")
    if failures:
        raise VmError("; ".join(failures))


def _boot(suite: str, wanted: Hardware) -> None:
    running = machine.find(suite)
    if running is not None:
        print(f"{suite} already runs", file=sys.stderr)
        return
    image = build.image(suite)
    began = time.monotonic()
    if wanted == Hardware():
        saved.resume(suite, suite, installed=False, die_with_me=False)
    else:
        print(f"{suite}: booting (usually 30 s) ...", file=sys.stderr, flush=True)
        machine.boot(image, suite, wanted=wanted, die_with_me=False)
    print(f"{suite}: up in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def _running(suite: str) -> machine.Machine:
    running = machine.find(suite)
    if running is None:
        raise VmError(f"{suite} does not run; start it: python3 -m tests.vm boot --guest {suite}")
    return running


def _status(suite: str) -> None:
    built = "built" if build.folder(suite).exists() else "not built"
    running = machine.find(suite)
    state = f"runs, ssh port {running.port}, process {running.pid}" if running else "does not run"
    print(f"{suite}: {built} ({build.folder(suite)}), {state}")


def _stop(suite: str) -> None:
    running = machine.find(suite)
    if running is None:
        print(f"{suite} does not run", file=sys.stderr)
    else:
        running.stop()
        print(f"{suite}: stopped", file=sys.stderr)


def _interrupted(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    """Run one command; the exit code is 0, the guest command's own, or 1 after an error."""
    options = _parser().parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    suites = list(RELEASES) if options.guest == "all" else [options.guest]
    try:
        if options.command == "build":
            _build(suites)
        elif options.command == "iommufd":
            print(iommufd.provide())
        elif options.command == "boot":
            wanted = Hardware(
                topology=Topology(cores=options.cores),
                kernel_arguments=tuple(options.append.split()),
            )
            for suite in suites:
                build.image(suite)
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda suite: _boot(suite, wanted), suites))
        elif options.command in ("shell", "run"):
            words = options.words if options.command == "run" else []
            if options.command == "run" and not words:
                raise VmError("run needs a command: python3 -m tests.vm run CMD ...")
            return _running(options.guest).ssh.interactive(words, options.user)
        else:
            for suite in suites:
                {"status": _status, "stop": _stop}[options.command](suite)
    except VmError as error:
        told = "; ".join([str(error), *getattr(error, "__notes__", [])])
        print(f"tests.vm: {told}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
