"""Daemons that are asked through a stream socket."""

from __future__ import annotations

import os
import socket
import struct

from vfio_hooks.errors import HookError, reason


def ask(path: str, text: str, seconds: float) -> str:
    """Send one request and return all that comes back before the other side closes.

    The request carries our process, user and group, which irqbalance looks at (unix(7),
    SCM_CREDENTIALS). Raises HookError.
    """
    credentials = struct.pack("3i", os.getpid(), os.getuid(), os.getgid())
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as daemon:
            daemon.settimeout(seconds)
            daemon.connect(path)
            daemon.sendmsg(
                [text.encode()], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)]
            )
            while part := daemon.recv(65536):
                answer += part
    except TimeoutError:
        raise HookError(f"{path}: no answer to {text!r} within {seconds:g} s") from None
    except OSError as error:
        raise HookError(f"{path}: cannot ask {text!r}: {reason(error)}") from None
    return answer.decode(errors="replace")
