"""A process in the guest that tells the host's state, again and again.

It stays for as long as its guest is used: a Python that starts anew, and the modules that it
imports, would cost a second or two of emulated work at each look.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time

from tests.vm.process import VmError
from tests.vm.ssh import Ssh
from vfio_hooks.rehearse.observed import State

COMMAND = "exec env PYTHONPATH=/src python3 -BPS -m tests.vm.snapshot --serve"
DEADLINE = 300.0  # s


class Observer:
    """What is seen in one guest; started when it is first asked."""

    def __init__(self, ssh: Ssh) -> None:
        self._ssh = ssh
        self._process: subprocess.Popen[bytes] | None = None

    def look(self, expected: State | None) -> tuple[State, tuple[str, ...]]:
        """The state, and AppArmor's refusals so far.

        A state as expected is taken at once, any other one when two looks agree.
        """
        line = json.dumps(expected).encode() + b"\n"
        try:
            answer = self._ask(line)
        except OSError:
            # A test may have ended it, with all other sessions.
            self._process = None
            answer = self._ask(line)
        told = json.loads(answer)
        return told["state"], tuple(told["denials"])

    def _ask(self, line: bytes) -> bytes:
        if self._process is None or self._process.poll() is not None:
            self._process = self._ssh.open(COMMAND)
        to, back = self._process.stdin, self._process.stdout
        assert to and back
        to.write(line)
        to.flush()
        answer, end = b"", time.monotonic() + DEADLINE
        while not answer.endswith(b"\n"):
            if not select.select([back], [], [], max(0.0, end - time.monotonic()))[0]:
                raise VmError(f"{self._ssh.hostname}: its state is not told within {DEADLINE:g} s")
            part = os.read(back.fileno(), 1 << 20)
            if not part:
                raise BrokenPipeError("the process in the guest has ended")
            answer += part
        return answer
