"""Other VMs' journals, read only as far as a plan needs them.

A host may have dozens of VMs with thousands of claims, and an event of one more VM shares a few
values with them, or none. The record that ends an event has a checksum of all bytes before it. So
damage anywhere in a file is found without parsing its lines. A file whose checksum is right is only
searched for single keys, and only the claims on these are built. A file with a wrong checksum, or
without one, as version 0.1.0 wrote it, is read line by line, to say what is wrong and where.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from zlib import crc32

from vfio_hooks.engine.journal import (
    BEGIN,
    CLAIM,
    END,
    SUM,
    VERSION,
    WAITING,
    Claim,
    as_claim,
    encoded,
)

FEW = 16
"""For up to so many keys a file is searched one by one; for more keys an index is made."""


class Sealed:
    """A journal whose last event has ended, and whose bytes are those that were written."""

    def __init__(self, uuid: str, vm: str, data: bytes, last: int) -> None:
        self.uuid = uuid
        self.last = last
        """The highest number of a claim."""
        self.data = data
        self._vm = vm
        self._claims: dict[str, list[Claim]] = {}

    def on(self, key: str) -> list[Claim]:
        """The claims on a key, oldest first. Raises HookError if this version does not know one."""
        if key not in self._claims:
            start = encoded(key)
            lines = self._search(start) if self._is_asked_little else self._by_key.get(start, ())
            self._claims[key] = [self._claim(line) for line in lines]
        return self._claims[key]

    @property
    def _is_asked_little(self) -> bool:
        """Whether to search the file for every key, and not make an index of all of it."""
        return len(self._claims) < FEW

    def _search(self, key: bytes) -> Iterator[bytes]:
        """What `_by_key` has for a key."""
        start = b"\n" + CLAIM + key + b',"number":'
        place = self.data.find(start)
        while place >= 0:
            place += 1 + len(CLAIM)
            yield self.data[place : self.data.index(b"\n", place)]
            place = self.data.find(start, place)

    @cached_property
    def _by_key(self) -> dict[bytes, list[bytes]]:
        """The records of claims by key, both as in the file."""
        found: dict[bytes, list[bytes]] = {}
        for piece in self.data.split(b"\n" + CLAIM)[1:]:
            line = piece.partition(b"\n")[0]
            found.setdefault(line.partition(b',"number":')[0], []).append(line)
        return found

    @cached_property
    def _marks(self) -> dict[bytes, bytes]:
        """The last record of each claim, by its number, apart from the claim itself."""
        marks = {}
        for line in self.data.split(b"\n"):
            if not line.startswith((CLAIM, BEGIN, END)):
                marks[line.partition(b'"number":')[2].partition(b",")[0]] = line
        return marks

    def _mark(self, number: bytes) -> bytes | None:
        """What `_marks` has for a number."""
        if not self._is_asked_little:
            return self._marks.get(number)
        place = self.data.rfind(b'"number":' + number + b',"goal":')
        if place < 0:
            return None
        return self.data[self.data.rfind(b"\n", 0, place) + 1 : self.data.index(b"\n", place)]

    def _claim(self, line: bytes) -> Claim:
        claim = as_claim(json.loads(CLAIM + line), self.uuid, self._vm)
        mark = self._mark(str(claim.number).encode())
        return claim.marked(json.loads(mark)) if mark else claim


def sealed(uuid: str, data: bytes) -> Sealed | None:
    """The journal with these bytes; None if it has to be read line by line."""
    start = data.rfind(b"\n", 0, -1) + 1
    if not data.startswith(BEGIN) or not data.startswith(END, start) or not data.endswith(b"\n"):
        return None
    try:
        end = json.loads(data[start:])
        if end["sum"] != f"{crc32(memoryview(data)[: data.rfind(SUM)]):08x}":
            return None
        begin = json.loads(data[data.rfind(BEGIN) :].partition(b"\n")[0])
        found = Sealed(uuid, begin["vm"], data, int(end["last"]))
    except (ValueError, KeyError, TypeError):
        return None
    if WAITING in data:
        return None  # Every event checks whether such a claim can be undone by now.
    # Claims without a key are an older version's.
    keyed = data.count(b'{"record":"claim"') == data.count(CLAIM)
    return found if keyed and begin["journal"] == VERSION else None
