"""Looks at the emulated host from inside of it: what `rehearse` sees there, and what AppArmor says.

`python3 -m tests.vm.snapshot` prints the state as JSON, and with `--serve` once for each line on
stdin.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator

from vfio_hooks.rehearse.compared import difference
from vfio_hooks.rehearse.observed import State, collect, run


def settled(expected: State | None) -> State:
    """The state, when it is the one expected, or else when two looks agree (for 60 s at most)."""
    state, end = collect(), time.monotonic() + 60
    while expected is None or difference(expected, state):
        run("udevadm", "settle", "--timeout=60")
        before, state = state, collect()
        if not difference(before, state) or time.monotonic() > end:
            break
    return state


def denials(log: int) -> Iterator[str]:
    """What AppArmor has refused since the last call, out of the kernel's log."""
    while True:
        try:
            record = os.read(log, 8192).decode(errors="replace")
        except BlockingIOError:
            return
        except BrokenPipeError:
            continue  # the next one was overwritten: the read after this one gets what is there
        text = record.partition(";")[2].partition("\n")[0]
        if 'apparmor="DENIED"' in text:
            yield text


def serve() -> None:
    """Answer each line on stdin, which is the state expected or null, with what is seen."""
    log, refused = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK), list[str]()
    for line in sys.stdin:
        state = settled(json.loads(line))
        refused += denials(log)
        print(json.dumps({"state": state, "denials": refused}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        json.dump(collect(), sys.stdout, indent=1, sort_keys=True)
