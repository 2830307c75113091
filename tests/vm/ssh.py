"""Commands in the guest, over one shared ssh connection."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.vm import tools
from tests.vm.process import VmError


@dataclass(frozen=True)
class Result:
    """What a command in the guest did."""

    command: str
    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Ssh:
    """The way into one running guest; `folder` takes the shared connection's socket."""

    port: int
    hostname: str
    identity: Path
    known_hosts: Path
    folder: Path

    def command(self, user: str, *, shared: bool = True) -> list[str]:
        """The ssh command line up to and including the destination; run it in `folder`."""
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "IdentityFile": f'"{self.identity}"',
            "UserKnownHostsFile": f'"{self.known_hosts}"',
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "HostKeyAlias": self.hostname,
            "ConnectTimeout": "120",
            "ServerAliveInterval": "30",
            "ServerAliveCountMax": "10",
            "LogLevel": "ERROR",
        }
        if shared:
            # A relative path, because a socket's may have no more than 107 bytes.
            options |= {
                "ControlMaster": "auto",
                "ControlPath": f"ssh-{user}",
                "ControlPersist": "yes",
            }
        words = [tools.program("ssh"), "-F", "none", "-p", str(self.port)]
        words += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return [*words, f"{user}@127.0.0.1"]

    def run(
        self,
        command: str,
        *,
        user: str = "root",
        input: str | None = None,
        timeout: float = 120,
    ) -> Result:
        """Run a shell command line in the guest; its exit code is the caller's to judge."""
        try:
            done = subprocess.run(
                [*self.command(user), "--", command],
                input=input,
                stdin=subprocess.DEVNULL if input is None else None,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=timeout,
                cwd=self.folder,
            )
        except subprocess.TimeoutExpired as error:
            raise VmError(f"{self.hostname}: no end within {timeout:.0f} s: {command}") from error
        return Result(command, done.returncode, done.stdout, done.stderr)

    def interactive(self, words: list[str], user: str) -> int:
        """Hand the terminal to a shell or a command in the guest; returns its exit code."""
        terminal = ["-t"] if os.isatty(0) and not words else []
        # One word is a whole shell command line; several are a command and its arguments.
        line = words[0] if len(words) == 1 else shlex.join(words)
        command = ["--", line] if words else []
        done = subprocess.run(
            [*self.command(user), *terminal, *command], cwd=self.folder, timeout=None
        )
        return done.returncode

    def open(self, command: str) -> subprocess.Popen[bytes]:
        """Start a command that is spoken to; it ends when its stdin does."""
        return subprocess.Popen(
            [*self.command("root"), "--", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self.folder,
        )

    def close(self) -> None:
        """End the shared connection; the next command opens another."""
        words = [*self.command("root"), "-O", "exit"]
        subprocess.run(words, cwd=self.folder, capture_output=True, timeout=60)

    def answers(self) -> bool:
        """Whether an ssh server speaks: QEMU accepts a connection long before one does."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False
