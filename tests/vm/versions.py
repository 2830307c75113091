"""Which versions a release has, and which it had when all its tests passed last."""

from __future__ import annotations

from tests.vm import cache

# What the tests are about.
WATCHED = """
    linux-image-amd64 systemd libvirt-daemon-system qemu-system-x86 python3 irqbalance apparmor
    iproute2 python3-lxml python3-sh sway
""".split()
COMMAND = f"dpkg-query --show --showformat='${{Package}} ${{Version}}\\n' {' '.join(WATCHED)}"
"""Prints them in a guest, a package a line."""


def changes(suite: str) -> list[str]:
    """What is not as it was when all tests passed, as in "systemd 262-1 -> 263-1"."""
    before, now = _last_good(suite), _current(suite)
    return [
        f"{name} {before.get(name, 'absent')} -> {now.get(name, 'absent')}"
        for name in WATCHED
        if before and before.get(name) != now.get(name)
    ]


def keep(suite: str) -> None:
    """Note what the release has, because all its tests have passed."""
    lines = [" ".join(item) for item in _current(suite).items()]
    (cache.root() / f"{suite}.good").write_text("\n".join([*lines, ""]), encoding="utf-8")


def _current(suite: str) -> dict[str, str]:
    """Of the saved guest that the tests go on from; see saved.py."""
    return _read(f"booted-{suite}-*/versions")


def _last_good(suite: str) -> dict[str, str]:
    return _read(f"{suite}.good")


def _read(pattern: str) -> dict[str, str]:
    lines = [line for path in cache.root().glob(pattern) for line in path.read_text().splitlines()]
    return dict(line.split(" ", 1) for line in lines)
