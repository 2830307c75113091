"""Domains of all kinds, whole and mangled, on hosts of all kinds."""

import contextlib
import io
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.effort import effort
from tests.strange import DOMAINS, HOSTS, mangled
from vfio_hooks import PLANNED
from vfio_hooks.cli import main
from vfio_hooks.cli.forecast import Outlook, forecast
from vfio_hooks.cli.trial import tried
from vfio_hooks.config import of_text
from vfio_hooks.config.starter import choices, toml
from vfio_hooks.domain import Domain, parse
from vfio_hooks.event import Event
from vfio_hooks.paths import Paths

VERBS = (
    ("check", "--config-dir", "--state-dir"),
    ("plan", "--config-dir", "--state-dir", "--use=pci,usb,shm,hugepages,memory,cpus,irqs"),
    ("init", "--config-dir", "--dry-run", "--pins"),
    ("topology",),
    ("iommu", "--state-dir"),
)


def started(domain: Domain, here: Paths) -> Outlook:
    """How a start of the VM ends with what `init` writes on that host."""
    made = tried(domain, list(choices(domain, here.host())), here)
    events = [Event(domain.name, op) for op in PLANNED]
    return forecast(domain, of_text(toml(domain, made), "vm.toml"), here, events).outlooks[-1]


@pytest.mark.parametrize("name", HOSTS)
def test_what_init_writes_starts_on_any_host(name: str, tmp_path: Path) -> None:
    """Some of the domains at each run, all of them on demand."""
    HOSTS[name](tmp_path)
    here = Paths(f"{tmp_path}/hooks", "/nonexistent", str(tmp_path))
    for one in random.Random(name).sample(sorted(DOMAINS), effort(8, len(DOMAINS))):
        assert started(parse(DOMAINS[one].encode()), here).failures == (), one


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("host")
    HOSTS["stranger usb-nvme"](root)
    return root


@settings(
    max_examples=effort(30, 2000),
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(xml=mangled())
def test_no_verb_is_stopped_by_what_it_cannot_read(xml: bytes, host: Path) -> None:
    """It ends with a line that says so. For any other exception the line has "(a defect;"."""
    file = host / "domain.xml"
    file.write_bytes(xml)
    for verb, *options in VERBS:
        words = [f"{one}={host}/x" if one.endswith("-dir") else one for one in options]
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()) as told,
        ):
            code = main([verb, "--xml", str(file), "--root", str(host), *words])
        assert code in (0, 1) and "(a defect;" not in told.getvalue(), (verb, xml)
