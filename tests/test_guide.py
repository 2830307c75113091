"""The guide's whole day on a captured host: fifteen lines plan all that its scripts do."""

import shutil
from pathlib import Path

import pytest

from tests.fakes.kernel import Lines
from tests.guide.host import GPU, PF, GuideHost
from vfio_hooks import PLANNED
from vfio_hooks.cli.folding import folded
from vfio_hooks.cli.forecast import NoState
from vfio_hooks.config import load
from vfio_hooks.domain import parse
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.engine.plan import check, preview
from vfio_hooks.event import Event
from vfio_hooks.hook.facilities import plan_all

ROOT = Path(__file__).resolve().parents[1]
VM = "VFIO-NoHide"
EXAMPLE = ROOT / "hooks/qemu.d" / VM / "vm.toml"
XML = ROOT / "tests/guide" / f"{VM}.xml"
SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
FREE, OWN = "0-7,16-23", "8-15,24-31"


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the example plans on the guide's host, a line for each change."""
    folder = tmp_path_factory.mktemp("guide")
    shutil.copytree(EXAMPLE.parent, folder / "qemu.d" / VM)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    host = GuideHost(folder / "host")
    config = load(str(folder), VM)
    assert config
    domain, ledger, log = parse(XML.read_bytes()), Ledger(NoState(str(folder))), Lines()
    steps = [step for op in PLANNED for step in plan_all(Event(VM, op), domain, config, host, log)]
    check(steps, domain.uuid, ledger, host)
    assert log.warnings == []
    return "\n".join(line for line, _ in folded(preview(steps, host, ledger)))


def test_the_domain_is_valid_again() -> None:
    from lxml import etree

    if not SCHEMA.exists():
        pytest.skip("libvirt's schemas are not installed")
    schema = etree.RelaxNG(etree.parse(str(SCHEMA)))
    assert schema.validate(etree.parse(str(XML))), schema.error_log


def test_fifteen_lines() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 15


@pytest.mark.parametrize(
    "change",
    [
        *(f"/sys/bus/pci/devices/{address}/driver: " for address in (*GPU, "0000:07:10.3")),
        "→ DisplayPort-2-3 off; HDMI-A-0 1920x1080@60.00 at=0,0 primary",
        f"/sys/bus/pci/devices/{PF}/virtfn1 vlan: 0 → 69",
        "policy{8-15,24-31}/scaling_governor: ondemand → performance",
        f"/sys/fs/cgroup/system.slice/cpuset.cpus: (not set) → {FREE}",
        f"/sys/fs/cgroup/user.slice/cpuset.cpus: (not set) → {FREE}",
        f"/proc/irq/{{30-39}}/smp_affinity_list: 0-31 → {FREE}",
        "node0/hugepages/hugepages-2048kB/nr_hugepages: 0 → 4096",
        "node1/hugepages/hugepages-2048kB/nr_hugepages: 0 → 4096",
        f".service: moves the interrupts of the VM's own devices to CPUs {OWN}",
        "not running → /usr/bin/barrier --config /home/grassyloki/barrierconfig.conf",
    ],
)
def test_what_the_scripts_do_is_planned(plan: str, change: str) -> None:
    assert change in plan
