"""Building a guest's image into the cache, once for each set of ingredients."""

from __future__ import annotations

import json
from pathlib import Path

from tests.vm import cache, machine, tools
from tests.vm.image import Image
from tests.vm.process import VmError, poll, progress, run
from tests.vm.release import EXCLUDED, SETUP, WARM_UP, Release
from tests.vm.rootfs import DISK_SIZE, make

# Raise it when the code that builds changes what it builds.
BUILD_VERSION = "1"
# s; AppArmor compiles its profiles then, of which forky has a hundred.
FIRST_BOOT = 1500.0


def folder(suite: str) -> Path:
    """Where the image of a release lies, built or not."""
    release = Release(suite)
    ingredients = [BUILD_VERSION, suite, *release.packages, DISK_SIZE, *EXCLUDED, SETUP, WARM_UP]
    ingredients += release.apt_options
    ingredients.append(json.dumps(release.files(), sort_keys=True))
    return cache.root() / f"{suite}-{cache.key(ingredients)}"


def image(suite: str) -> Image:
    """The image of a release, built now when the cache does not have it."""
    entry = folder(suite)
    if not entry.exists():
        with cache.locked(suite):
            # Another builder may have made it while we waited for the lock.
            if not entry.exists():
                _build(suite, entry)
    return Image(suite, entry)


def _build(suite: str, entry: Path) -> None:
    tools.ensure("mmdebstrap", "mkfs.ext4", "e2fsck", "ssh", "ssh-keygen", "unshare", "setpriv")
    log = cache.root() / f"{suite}.log"
    log.unlink(missing_ok=True)
    with cache.new_entry(suite, entry) as work:
        made = Image(suite, work)
        make(Release(suite), made, log)
        with progress(f"{suite}: first boot", 60):
            _warm_up(made)


def _warm_up(made: Image) -> None:
    """Boot once with writes kept, let the services fill their caches, and shut down."""
    name = f"build-{made.suite}"
    stale = machine.find(name)
    if stale is not None:
        stale.stop()
    running = machine.boot(made, name, keep_writes=True, deadline=FIRST_BOOT)
    try:
        done = running.ssh.run(WARM_UP, timeout=300)
        if done.returncode != 0:
            raise VmError(f"the first boot of {made.suite} failed: {done.stderr.strip()}")
        running.ssh.run("systemctl poweroff", timeout=60)
        poll(lambda: not running.alive(), f"power-off of {made.suite}", deadline=180)
    finally:
        running.stop()
    # A stalled first try was killed with the disk mounted, and there is no journal: exit
    # code 1 is "mended".
    check = [tools.program("e2fsck"), "-f", "-y", str(made.disk)]
    run(check, f"check the disk of {made.suite}", timeout=300, accept=(0, 1))
