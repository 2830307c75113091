"""`vfio-hooks log` on a whole host: what libvirt's hook did, out of the real systemd journal."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.vm.domains import Domain
from tests.vm.guest import Guest

pytestmark = pytest.mark.vm

VM = Domain("log test")
FOLDER = f"'/etc/libvirt/hooks/qemu.d/{VM.name}'"
SCRIPT = "#!/bin/sh\necho 'from sh'\n/bin/echo 'from its child' >&2\n"
LOG = f"vfio-hooks log '{VM.name}'"


@pytest.fixture
def host(hooked: Guest) -> Iterator[Guest]:
    """A managed VM that runs an executable and changes one value."""
    hooked.put(FOLDER.strip("'") + "/vm.toml", '[[write]]\npath = "vm.swappiness"\nvalue = 7\n')
    hooked.put(FOLDER.strip("'") + "/prepare/begin/10", SCRIPT, mode="0755")
    hooked.put("/tmp/log-test.xml", VM.xml())
    yield hooked
    event(hooked, "release end")
    hooked.run(f"rm -rf {FOLDER} /tmp/log-test.xml")


def event(guest: Guest, name: str) -> None:
    """What libvirt does at an event."""
    guest.run(f"/etc/libvirt/hooks/qemu '{VM.name}' {name} - < /tmp/log-test.xml", timeout=300)


@pytest.mark.matrix_only
def test_a_start_and_an_end_are_told(host: Guest) -> None:
    event(host, "prepare begin")
    event(host, "release end")
    host.run("journalctl --sync")
    found = json.loads(host.run(f"{LOG} -n 2 --json").stdout)["events"]
    assert [past["event"] for past in found] == ["prepare", "release"]
    start, end = ([line["text"] for line in past["lines"]] for past in found)
    assert start[0] == "prepare"
    assert any(text.endswith("/prepare/begin/10") for text in start)
    assert "write: /proc/sys/vm/swappiness: 60 → 7" in start
    assert any("swappiness" in text for text in end[1:])
    output = [line["text"] for line in found[0]["lines"] if line["output"]]
    assert output == ["from sh", "from its child"]
    times = [line["milliseconds"] for line in found[0]["lines"]]
    assert times == sorted(times)
    assert times[0] == 0 < times[-1]


@pytest.mark.matrix_only
def test_who_may_not_read_the_journal_is_told(host: Guest) -> None:
    done = host.run(f"setpriv --reuid nobody --regid nogroup --clear-groups {LOG}", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "sudo" in done.stderr
