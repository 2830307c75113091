"""Fixtures for tests in the emulated host, one boot for all tests of a release."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.vm import build, machine
from tests.vm.guest import Guest
from tests.vm.release import RELEASES
from tests.vm.snapshot import State, difference


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options that only tests in the emulated host have."""
    group = parser.getgroup("emulated host")
    group.addoption("--guest", choices=RELEASES, help="only the tests of this release")
    group.addoption(
        "--running-guest",
        action="store_true",
        help="use the guests that `python3 -m tests.vm boot` left running",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that wants a guest once for each release."""
    if "guest" in metafunc.fixturenames:
        # The option is unknown when pytest was started without naming this folder.
        chosen = metafunc.config.getoption("--guest", None)
        releases = [chosen] if chosen else list(RELEASES)
        # With `-n 2 --dist loadgroup` each release gets a process, and so a boot, of its own.
        marked = [
            pytest.param(release, marks=(pytest.mark.vm, pytest.mark.xdist_group(release)))
            for release in releases
        ]
        metafunc.parametrize("guest", marked, indirect=True, scope="session")


@pytest.fixture(scope="session")
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A booted emulated host of the release that the test runs for."""
    suite = request.param
    if request.config.getoption("--running-guest", False):
        running = machine.find(suite)
        if running is None:
            pytest.fail(f"{suite} does not run: python3 -m tests.vm boot --guest {suite}")
        yield _calmed(running)
        return
    # Killed by the kernel when this process ends, in whatever way it ends.
    started = machine.boot(build.image(suite), f"pytest-{os.getpid()}-{suite}")
    try:
        yield _calmed(started)
    finally:
        started.stop()


def _calmed(running: machine.Machine) -> Guest:
    guest = Guest(running)
    guest.calm()
    return guest


@pytest.fixture
def hooked(guest: Guest) -> Guest:
    """The guest with vfio-hooks installed, once for all tests."""
    if guest.run("test -x /etc/libvirt/hooks/qemu", check=False).returncode:
        guest.install()
    return guest


@dataclass
class _Seen:
    """What the last test left: the next one starts from it, so one snapshot serves both."""

    state: dict[str, State] = field(default_factory=dict)
    denials: dict[str, int] = field(default_factory=dict)


@pytest.fixture(scope="session")
def _seen() -> _Seen:
    return _Seen()


@pytest.fixture(autouse=True)
def host_unchanged(request: pytest.FixtureRequest, _seen: _Seen) -> Iterator[None]:
    """Fail a test that leaves the host other than it was, or that AppArmor had to stop.

    A test marked `denials` expects AppArmor to refuse something.
    """
    if "guest" not in request.fixturenames:
        yield
        return
    guest: Guest = request.getfixturevalue("guest")
    name = guest.release
    if name not in _seen.state:
        state, denials = guest.observe()
        _seen.state[name], _seen.denials[name] = state, len(denials)
    before, denied_before = _seen.state[name], _seen.denials[name]
    yield
    after, denials = guest.observe()
    _seen.state[name], _seen.denials[name] = after, len(denials)
    changes = difference(before, after)
    if changes:
        pytest.fail("the host is not as it was:\n  " + "\n  ".join(changes), pytrace=False)
    new = denials[denied_before:]
    if new and not request.node.get_closest_marker("denials"):
        pytest.fail("AppArmor refused:\n  " + "\n  ".join(new), pytrace=False)
