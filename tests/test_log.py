"""vfio-hooks log: events and their steps out of lines that a real systemd journal wrote."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.command import Command, as_nobody, needs_root
from tests.sealed import can_seal

pytestmark = pytest.mark.real_processes
ROOT = Path(__file__).resolve().parents[1]
JOURNALD = "/lib/systemd/systemd-journald"
BEGIN = 1_795_259_883_095_792


def entry(text: object, after: float = 0, **fields: Any) -> dict[str, Any]:
    """A line of journalctl's, as systemd 252 wrote it, so many milliseconds after the begin."""
    time = str(BEGIN + round(after * 1000))
    return {
        "_PID": "2468",
        "_UID": "0",
        "_BOOT_ID": "0e5218535ffe4439b8f0eaf341146f9f",
        "__REALTIME_TIMESTAMP": time,
        "PRIORITY": "6",
        "MESSAGE": text,
        **fields,
    }


def step(
    text: object, after: float = 0, vm: str = "win11", event: str = "prepare", **fields: Any
) -> dict[str, Any]:
    """A line that the hook itself logs."""
    source = str(BEGIN + round(after * 1000))
    tags = {"VFIO_HOOKS_VM": vm, "VFIO_HOOKS_EVENT": event, "VFIO_HOOKS_EVENT_OF": "win11"}
    late = {"__REALTIME_TIMESTAMP": str(int(source) + 900_000)}
    return entry(text, after, _SOURCE_REALTIME_TIMESTAMP=source, **{**late, **tags, **fields})


def printed(text: object, after: float = 0, stream: str = "s1", **fields: Any) -> dict[str, Any]:
    """A line of an executable."""
    return entry(text, after, _STREAM_ID=stream, **{"_PID": "2509", **fields})


def lines(*entries: dict[str, Any]) -> str:
    return "".join(json.dumps(one) + "\n" for one in entries)


START = (
    step("win11: prepare"),
    step("win11: running /x/10", 0.7),
    printed("win11: output of /x/10", 0.9, _PID="2468"),
    printed("from sh", 2.3),
    printed([102, 114, 255, 1], 3.0, _PID="2510"),
    step("win11: governor: /g: powersave → performance", 4.4),
    step("other: prepare was cut off: undoing what it did", 4.5, vm="other", PRIORITY="4"),
    step("win11: going on without it: no", 1234.4, PRIORITY="4"),
)
END = (
    step("win11: release (shutdown)", 9000, event="release", _PID="3000"),
    step("win11: /g: back to powersave", 9001, event="release", _PID="3000"),
)


@pytest.fixture
def log(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TZ", "UTC")

    def show(text: str, *argv: str, vm: str = "win11") -> Any:
        file = tmp_path / "lines"
        file.write_text(text)
        return command("log", vm, "--file", str(file), *argv)

    return show


def test_events_with_their_steps_and_times(log: Any) -> None:
    result = log(lines(*START, *END))
    assert (result.code, result.err) == (0, "")
    assert [line.partition(" ")[2] for line in result.out.splitlines() if line[:1] == "2"] == [
        "11:18:03 prepare, 1234 ms",
        "11:18:12 release (shutdown), 1 ms",
    ]
    assert [line for line in result.out.splitlines() if line[:1] == " "] == [
        "  11:18:03.096     +1 ms  running /x/10",
        "  11:18:03.098     +2 ms  | from sh",
        "  11:18:03.098     +3 ms  | fr�\\x01",
        "  11:18:03.100     +4 ms  governor: /g: powersave → performance",
        "  11:18:04.330  +1234 ms  warning: going on without it: no",
        "  11:18:12.096     +1 ms  /g: back to powersave",
    ]


def test_what_another_vms_event_did_to_this_one(log: Any) -> None:
    result = log(lines(*START), vm="other")
    assert result.out.splitlines() == [
        "2026-11-21 11:18:03 prepare of win11, 0 ms",
        "  11:18:03.100     +0 ms  warning: prepare was cut off: undoing what it did",
    ]


def test_a_refused_start(log: Any) -> None:
    text = lines(step("win11: prepare failed: pci: no such device", PRIORITY="4"))
    assert log(text).out.splitlines() == [
        "2026-11-21 11:18:03 prepare, 0 ms",
        "  11:18:03.095     +0 ms  warning: prepare failed: pci: no such device",
    ]


def test_the_last_events_only(log: Any) -> None:
    found = json.loads(log(lines(*START, *END), "-n", "1", "--json").out)
    assert [event["event"] for event in found["events"]] == ["release"]
    assert found["events"][0]["lines"][1] == {
        "time": "2026-11-21T11:18:12.096792+00:00",
        "milliseconds": 1.0,
        "text": "/g: back to powersave",
        "warning": False,
        "output": False,
    }


def test_a_process_number_that_came_again(log: Any) -> None:
    later = 90_000_000.0
    again = (
        step("win11: stopped (destroyed)", later, event="stopped"),
        printed("win11: output of /x/20", later + 1, "s2", _PID="2468"),
        printed("later", later + 2, "s2"),
    )
    events = json.loads(log(lines(*START, *again), "--json").out)["events"]
    texts = [[line["text"] for line in event["lines"] if line["output"]] for event in events]
    assert texts == [["from sh", "fr�\x01"], ["later"]]


def test_the_output_of_another_vms_executables_is_not_shown(log: Any) -> None:
    other = (
        step("b: prepare", vm="b", VFIO_HOOKS_EVENT_OF="b", _PID="7"),
        step("win11: prepare was cut off", 1, VFIO_HOOKS_EVENT_OF="b", _PID="7", PRIORITY="4"),
        printed("b: output of /x", 2, _PID="7"),
        printed("of b", 3),
    )
    assert "of b" not in log(lines(*other)).out.replace("prepare of b", "")
    assert "| of b" in log(lines(*other), vm="b").out


@pytest.mark.parametrize("text", ["{", "{}", '{"__REALTIME_TIMESTAMP":"x"}', '{"a":'])
def test_a_file_that_is_something_else(log: Any, text: str) -> None:
    result = log(text + "\n")
    assert (result.code, result.out) == (1, "")
    assert result.err == "vfio-hooks: line 1 is not one of `journalctl -o json`\n"


@pytest.mark.parametrize("text", ["", "-- No entries --\n", lines(entry("a"), printed("b"))])
def test_nothing_is_logged(log: Any, text: str) -> None:
    assert (log(text).code, log(text).out) == (0, "nothing is logged about win11\n")


@pytest.mark.parametrize("argv", [["-n", "0"], ["-n", "x"], []])
def test_wrong_usage(command: Command, argv: list[str]) -> None:
    assert command("log", *argv, *(["win11"] if argv else [])).code == 2


@needs_root
def test_who_may_not_read_the_journal_is_told() -> None:
    done = as_nobody("log", "win11")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("vfio-hooks: ")


def test_nobody_but_root_writes_what_is_shown(log: Any) -> None:
    theirs = (
        step("win11: release (shutdown)", 1, _UID="1000"),
        printed("win11: output of /x/20", 1.1, "s2", _PID="2468", _UID="1000"),
        printed("forged", 1.2, "s2", _UID="1000"),
        step("win11: prepare", 9000, _UID="1000", _PID="3001"),
    )
    users = printed("of a command that it ran as a user", 3.1, _UID="1000")
    shown = log(lines(*START, users)).out
    assert "| of a command that it ran as a user\n" in shown
    assert log(lines(*START, users, *theirs)).out == shown


REAL = """
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal
{journald} >/dev/null 2>&1 &
journald=$!
for _ in $(seq 600); do [ -S /run/systemd/journal/stdout ] && break; sleep 0.1; done
{python} -c '
from vfio_hooks.hook import scripts
from vfio_hooks.event import Event
from vfio_hooks.log import SystemdJournal
log = SystemdJournal(event="prepare", event_of="my vm")
event = Event("my vm", "prepare")
log.info("my vm: prepare", "my vm")
paths = scripts.find("{folder}", event)
scripts.run(paths, event, b"<x/>", 60, log)
log.warning("my vm: careful", "my vm")'
journalctl --sync 2>/dev/null || sleep 1
{python} -m vfio_hooks log "my vm"
kill $journald
"""


@pytest.mark.skipif(not can_seal(), reason="needs root and mount namespaces")
@pytest.mark.skipif(not os.access(JOURNALD, os.X_OK), reason="systemd-journald is not installed")
def test_a_real_journal_tells_what_executables_printed(tmp_path: Path) -> None:
    script = tmp_path / "prepare/begin/10"
    script.parent.mkdir(parents=True)
    script.write_text(
        '#!/bin/sh\necho "from sh"; /bin/echo "from its child"\n'
        'setpriv --reuid=65534 --clear-groups /bin/echo "from its user"\n'
    )
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c"]
        + [REAL.format(journald=JOURNALD, python=sys.executable, folder=tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = [line.partition(" ms  ")[2] for line in done.stdout.splitlines()[1:]]
    # A line of an executable has the time at which journald read it, which may be late.
    printed = [line for line in told if line.startswith("| ")]
    assert printed == ["| from sh", "| from its child", "| from its user"]
    own = [line for line in told if line not in printed]
    assert own == [f"running {script}", "warning: careful"]
    assert told[0] == own[0]
