"""Fixtures for tests in the emulated host: on which releases, in which guest, what they leave.

A process has one guest at a time. It goes on from a saved one for the first test on a release, and
after a test that has left it changed.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

from tests.vm import machine, saved
from tests.vm.guest import Guest
from tests.vm.process import VmError
from tests.vm.release import RELEASES, TESTING
from vfio_hooks.rehearse.compared import difference
from vfio_hooks.rehearse.observed import State


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that wants a guest on the first release, or on all: see `every_release`."""
    if "release" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.getoption("--guest")
    matrix = metafunc.config.getoption("--matrix")
    everywhere = matrix or metafunc.definition.get_closest_marker("every_release")
    releases = [chosen] if chosen else RELEASES if everywhere else RELEASES[:1]
    # With `--dist loadgroup` all processes share the files of one release, then of the next.
    marked = [
        pytest.param(
            release,
            marks=(
                pytest.mark.vm,
                pytest.mark.xdist_group(f"{metafunc.module.__name__}-{release}"),
                # On a busy machine an emulated CPU may stand still for seconds. So a test that
                # fails gets a second try, in a fresh guest; what failed first is printed.
                pytest.mark.flaky(reruns=1),
            ),
        )
        for release in releases
    ]
    metafunc.parametrize("release", marked, scope="session")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One release after the other, because to change to another one costs seconds."""

    def place(item: pytest.Item) -> float:
        if not item.get_closest_marker("vm"):
            # Others may have a parameter of that name, too.
            return -1
        chosen = getattr(item, "callspec", None)
        release = chosen.params.get("release") if chosen else None
        # Those that boot a host of their own take minutes. If they came last, the other process
        # would wait for them, so they come before the tests of the last release.
        return RELEASES.index(release) if release else len(RELEASES) - 1.5

    items.sort(key=place)


class Keeper:
    """The guest that this process has, and how its host was seen last."""

    def __init__(self, running: bool) -> None:
        self._running = running
        self._failures: dict[str, str] = {}
        self._absent: set[str] = set()
        self.guest: Guest | None = None
        self.state: State = {}
        self.denials = 0

    def get(self, release: str) -> Guest:
        """The guest of a release, started now if there is another one, or none."""
        if self.guest is None or self.guest.release != release:
            self.drop()
            guest = self._found(release) if self._running else self._resumed(release)
            self.guest = guest
            try:
                self.state, refused = guest.observe()
            except VmError:
                self.drop()
                raise
            self.denials = len(refused)
        return self.guest

    def hooked(self, guest: Guest) -> Guest:
        """The guest with vfio-hooks, which this one has lost: a saved one, or this one again."""
        if self._running:
            guest.install()
            return guest
        self.drop()
        return self.get(guest.release)

    def drop(self) -> None:
        """End the guest, or look anew at one that somebody else has started."""
        if self.guest is not None and not self._running:
            self.guest.machine.stop()
        self.guest = None

    def look(self) -> tuple[list[str], tuple[str, ...]]:
        """What is not as it was at the last look, and what AppArmor has refused since."""
        assert self.guest
        self.guest.forget_unmanaged()
        before, known = self.state, self.denials
        self.state, refused = self.guest.observe(before)
        self.denials = len(refused)
        return difference(before, self.state), refused[known:]

    def _found(self, release: str) -> Guest:
        found = machine.find(release)
        if found is None:
            pytest.fail(f"{release} does not run: python3 -m tests.vm boot --guest {release}")
        guest = Guest(found)
        guest.calm()
        return guest

    def _resumed(self, release: str) -> Guest:
        # What has failed once is not tried again for each test, which would take hours.
        if release not in self._failures:
            try:
                saved.provide(release, installed=False)
            except VmError as error:
                self._failures[release] = str(error)
                self._absent.add(release)
        if release in self._absent and release == TESTING:
            pytest.skip(f"{release} moves, and cannot be had today: {self._failures[release]}")
        if release not in self._failures:
            try:
                # Killed by the kernel when this process ends, in whatever way it ends.
                return Guest(saved.resume(release, f"pytest-{os.getpid()}-{release}"))
            except VmError as error:
                self._failures[release] = str(error)
        pytest.fail(f"no guest of {release}: {self._failures[release]}", pytrace=False)


@pytest.fixture(scope="session")
def _keeper(request: pytest.FixtureRequest) -> Iterator[Keeper]:
    keeper = Keeper(request.config.getoption("--running-guest"))
    yield keeper
    keeper.drop()


@pytest.fixture
def guest(release: str, _keeper: Keeper) -> Guest:
    """An emulated host of the release that the test runs for."""
    return _keeper.get(release)


@pytest.fixture
def hooked(guest: Guest, _keeper: Keeper) -> Guest:
    """The guest with vfio-hooks installed, by whatever means is the faster one."""
    if guest.run("test -x /etc/libvirt/hooks/qemu", check=False).returncode == 0:
        return guest
    return _keeper.hooked(guest)


_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember that a test has failed."""
    report = yield
    item.stash[_FAILED] = report.failed or item.stash.get(_FAILED, False)
    return report


@pytest.fixture(autouse=True)
def host_unchanged(request: pytest.FixtureRequest, _keeper: Keeper) -> Iterator[None]:
    """Fail a test that leaves the host other than it was, or that AppArmor had to stop.

    A test marked `denials` expects AppArmor to refuse something.
    """
    if "release" not in request.fixturenames:
        yield
        return
    request.getfixturevalue("guest")
    yield
    try:
        changes, refused = _keeper.look()
    except VmError:
        # The next test is not to meet a guest that does not answer.
        _keeper.drop()
        raise
    if changes or request.node.stash.get(_FAILED, False):
        _keeper.drop()
    if changes:
        pytest.fail("the host is not as it was:\n  " + "\n  ".join(changes), pytrace=False)
    if refused and not request.node.get_closest_marker("denials"):
        pytest.fail("AppArmor refused:\n  " + "\n  ".join(refused), pytrace=False)
