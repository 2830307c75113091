"""QEMU's own control socket: a command, and its answer."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import TextIO

from tests.vm.process import VmError


def ask(folder: Path, command: str, **arguments: object) -> dict[str, object]:
    """Run a command of QEMU's machine protocol; `folder` has the QEMU's socket.

    Raises VmError when QEMU refuses it, or does not answer.
    """
    # By the folder's descriptor, because a socket's path may have no more than 107 bytes.
    handle = os.open(folder, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(f"/proc/self/fd/{handle}/qmp")
            with connection.makefile("r", encoding="utf-8") as answers:
                answers.readline()  # the greeting
                _exchange(connection, answers, "qmp_capabilities", {})
                return _exchange(connection, answers, command, arguments)
    except OSError as error:
        raise VmError(f"QEMU does not answer to {command}: {error}") from error
    finally:
        os.close(handle)


def _exchange(
    connection: socket.socket, answers: TextIO, command: str, arguments: dict[str, object]
) -> dict[str, object]:
    line = json.dumps({"execute": command, "arguments": arguments})
    connection.sendall(f"{line}\n".encode())
    # Events come in between.
    for line in answers:
        answer = json.loads(line)
        if "error" in answer:
            raise VmError(f"QEMU refuses {command}: {answer['error']['desc']}")
        if "return" in answer:
            found: dict[str, object] = answer["return"]
            return found
    raise VmError(f"QEMU ended when it was asked for {command}")
