"""One libvirt event in, one exit code out: the contract of libvirt's qemu hook.

https://libvirt.org/hooks.html, and what libvirt does beyond it:

- A non-zero exit stops a start at `prepare` and `start`. At `started` it kills the guest that is
  already running, and so it does at `reconnect`. Everywhere else it is ignored. So libvirt is told
  of a failure only where that keeps a guest from starting.
- Anything on standard output replaces the domain's XML at `migrate` and `restore`.
- Standard error is what `virsh start` shows: one line.
- The same file is run for qemu:///session, as the user.

The hook's first half, a shell script, ends most events that have nothing to do before Python is
started. If another hook is kept, such events come through here and cost only the import of this
module and of `os`. Everything else is imported when it is needed.
"""

import os
import sys

from vfio_hooks import ENDING, HOOKS, IGNORED_SIGNALS, KEPT_HOOK, PLANNED, STATE, VM_FOLDERS

KEPT = f"{HOOKS}/{KEPT_HOOK}"
_REFUSABLE = PLANNED[:2]
"""The operations at which a failure makes libvirt refuse the start, and no guest runs yet."""


def main(argv: list[str]) -> int:
    """Handle `qemu VM OPERATION SUB-OPERATION EXTRA`, with the domain's XML on stdin."""
    vm, op = (*argv[1:3], "", "")[:2]
    if os.geteuid() or not (_is_managed(vm, op) or _has_state(op)):
        return _hand_over(argv)
    xml = sys.stdin.buffer.read() if sys.stdin else b""
    stdout = _take_stdout()
    code = _guarded(argv, xml)
    return code or _run_kept(argv, xml, stdout)


def _take_stdout() -> int:
    """Take libvirt's standard output away, and return it: nothing that prints reaches it now."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    stdout = os.dup(1)
    os.dup2(nothing, 1)
    return stdout


def _guarded(argv: list[str], xml: bytes) -> int:
    """Call `handle` under the contract: whatever happens, an exit code and at most one line."""
    vm, op = argv[1], argv[2]
    # In a half upgraded package even the import of our errors may fail.
    strict: type[BaseException] | tuple[()] = ()
    try:
        from vfio_hooks.errors import Strict as strict
        from vfio_hooks.event import Event
        from vfio_hooks.hook import handle
        from vfio_hooks.log import SystemdJournal
        from vfio_hooks.paths import Paths

        log = SystemdJournal(event=op, event_of=vm)
        try:
            handle(Event(*argv[1:5]), xml, Paths(HOOKS, STATE, "/"), log)
        except BaseException as error:
            log.warning(f"{vm}: {op} failed: {_line(error)}", vm)
            raise
    except BaseException as error:
        # SystemExit, too: a VM's own module may raise anything.
        if op in _REFUSABLE or isinstance(error, strict):
            sys.stderr.write(f"vfio-hooks: {_line(error)}\n")
            return 1
    return 0


def _line(error: BaseException) -> str:
    text = str(error) if hasattr(error, "problem") else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def _is_managed(vm: str, op: str) -> bool:
    if vm in ("", ".", "..") or "/" in vm or "/" in op:
        return False
    folder = f"{HOOKS}/{VM_FOLDERS}/{vm}"
    if op in PLANNED + ENDING:
        return os.path.isdir(folder)
    # There is nothing to undo, but the VM may have executables for the event.
    return bool(op) and os.path.isdir(f"{folder}/{op}")


def _has_state(op: str) -> bool:
    """Whether anything is changed on this host that the end of a VM may have to undo, even if the
    VM's folder has been removed since."""
    if op not in ENDING:
        return False
    try:
        if any(name.endswith(".journal") for name in os.listdir(STATE)):
            return True
        # An event that was cut off at its very end left this; it stays until it is taken back.
        return os.path.getsize(f"{STATE}/lock") > 0
    except OSError:
        return False


def _hand_over(argv: list[str]) -> int:
    """Become the kept hook, with its input and output untouched. Returns if there is none."""
    if not os.access(KEPT, os.X_OK):
        return 0
    import signal

    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execv(KEPT, [KEPT, *argv[1:]])
    except OSError as error:
        return _refuse_kept(argv, error)


def _run_kept(argv: list[str], xml: bytes, stdout: int) -> int:
    if not os.access(KEPT, os.X_OK):
        return 0
    # Without our own modules, which may be missing in a package that is only half upgraded.
    stdin = os.memfd_create("stdin")
    os.write(stdin, xml)
    os.lseek(stdin, 0, os.SEEK_SET)
    files = [(os.POSIX_SPAWN_DUP2, file, to) for to, file in enumerate((stdin, stdout))]
    try:
        pid = os.posix_spawn(
            KEPT, [KEPT, *argv[1:]], os.environ, file_actions=files, setsigdef=IGNORED_SIGNALS
        )
    except OSError as error:
        return _refuse_kept(argv, error)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _refuse_kept(argv: list[str], error: OSError) -> int:
    """Report that the kept hook cannot be run, at the events at which libvirt itself would fail."""
    from vfio_hooks.log import SystemdJournal

    vm, op = (*argv[1:3], "", "")[:2]
    text = (
        f"{KEPT}: cannot be run: {error.strerror}; fix its interpreter line, or move the file away"
    )
    SystemdJournal(event=op, event_of=vm).warning(f"{vm}: {text}", vm)
    if op not in _REFUSABLE:
        return 0
    sys.stderr.write(f"vfio-hooks: {text}\n")
    return 1
