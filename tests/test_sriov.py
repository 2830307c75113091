"""The sriov plugin and its knobs, on the fake card of seven VFs."""

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import sriov as card
from tests.fakes.kernel import Kernel, Lines, a_host
from tests.fakes.sriov import NIC, PF
from vfio_hooks.domain import Domain, PciFunction
from vfio_hooks.engine import Engine
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.engine.plan import check, preview
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import Gone, HookError
from vfio_hooks.event import Event
from vfio_hooks.host.sriov import Vf, find_pf, users, vf_at
from vfio_hooks.knobs.vf_count import VfCount
from vfio_hooks.knobs.vf_setting import VfSetting
from vfio_hooks.plugins import pci
from vfio_hooks.plugins.sriov import Options, notes, plan
from vfio_hooks.sharing import AtLeast, target
from vfio_hooks.steps import Step

COUNT = VfCount(PF).key
POOL = "/run/libvirt/network/pool.xml"


def host(count: int = 0) -> Kernel:
    kernel = a_host()
    if count:
        VfCount(PF).write(kernel, str(count))
    return kernel


def vm(*numbers: int, interfaces: Sequence[int] = (), networks: tuple[str, ...] = ()) -> Domain:
    plain = (PciFunction(card.address(number), True, "hostdev") for number in numbers)
    lent = (PciFunction(card.address(number), True, "interface") for number in interfaces)
    return Domain("vm", "u", pci=(*plain, *lent), networks=networks)


def planned(kernel: Kernel, domain: Domain, op: str = "prepare", **options: Any) -> list[str]:
    """Steps as "1 vlan=69 until release", "numvfs=2"."""
    return [_told(step) for step in plan(Event("vm", op), domain, Options(**options), kernel)]


def _told(step: Step) -> str:
    if isinstance(step.knob, VfSetting):
        value = getattr(step.share, "value", None)
        return f"{step.knob.vf} {step.knob.attribute}={value} until {step.until}"
    assert isinstance(step.share, AtLeast)
    return f"numvfs={step.share.count}"


def test_the_guide_s_line() -> None:
    """ip link set enp7s0f1 vf 1 vlan 69, with nothing said of it in the domain."""
    assert planned(host(2), Domain("vm", "u"), pf=NIC, vf=1, vlan=69) == [
        "numvfs=2",
        "1 vlan=69 until release",
    ]


def test_a_table_without_vf_is_for_those_of_the_domain() -> None:
    assert planned(host(4), vm(0, 2), trust=True) == [
        "numvfs=4",
        "0 trust=on until release",
        "2 trust=on until release",
    ]
    assert planned(host(4), vm(0, 2), vf=2, pf=PF, state="disable")[1:] == [
        "2 state=disable until release"
    ]


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"vlan": 0}, "vlan=0"),
        ({"vlan": 5, "qos": 3, "proto": "802.1ad"}, "vlan=5 qos 3 proto 802.1ad"),
        ({"mac": "52:54:00:AB:CD:EF"}, "mac=52:54:00:ab:cd:ef"),
        ({"spoofchk": False}, "spoofchk=off"),
        ({"max_tx_rate": 100}, "rate=max 100 min 0"),
        ({"max_tx_rate": 100, "min_tx_rate": 10}, "rate=max 100 min 10"),
        ({"state": "enable"}, "state=enable"),
    ],
)
def test_every_setting_goes_to_the_card_and_back(options: dict[str, Any], value: str) -> None:
    kernel = host(1)
    before = kernel.state()
    (_, step) = plan(Event("vm", "prepare"), vm(0), Options(**options), kernel)
    assert _told(step) == f"0 {value} until release"
    base, wanted = step.knob.read(kernel), value.partition("=")[2]
    step.knob.write(kernel, wanted)
    assert step.knob.read(kernel) == wanted
    step.knob.write(kernel, base)
    assert kernel.state() == before


def test_vfs_that_are_not_there_are_made_set_and_lent() -> None:
    kernel, domain = host(), vm(1)
    before = kernel.state()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        engine = Engine(kernel, StateFolder(folder), Lines())

        def planner(_: object) -> list[Step]:
            event = Event("vm", "prepare")
            return [
                *plan(event, domain, Options(vlan=69), kernel),
                *pci.plan(event, domain, pci.Options(), kernel),
            ]

        changes = [str(change) for change in engine.rehearse("prepare", uuid(0), "vm0", planner)]
        assert changes == [
            f"{COUNT}: 0 → 2",
            f"/sys/bus/pci/devices/{PF}/virtfn1 vlan: does not exist yet → 69",
            f"/sys/bus/pci/devices/{card.address(1)}/driver: does not exist yet → vfio-pci (by "
            f"libvirt)",
        ]
        engine.perform("prepare", uuid(0), "vm", planner)
        assert VfSetting(PF, 1, "vlan").read(kernel) == "69"
        kernel.bind_as_libvirt(card.address(1))
        engine.undo("stopped", uuid(0))
        kernel.give_back_as_libvirt(card.address(1))
        assert engine.undo("release", uuid(0)) == []
    assert kernel.state() == before


def test_a_vf_that_nobody_makes(memory: Path) -> None:
    kernel = host()
    steps = list(pci.plan(Event("vm", "prepare"), vm(1), pci.Options(), kernel))
    nobody = f"no such PCI device .* only after {COUNT} is set, which"
    with pytest.raises(HookError, match=nobody):
        preview(steps, kernel, Ledger(StateFolder(str(memory))))


def test_an_interface_s_vf_is_set_after_libvirt_and_taken_back_before() -> None:
    kernel, domain = host(2), vm(interfaces=[1])
    assert planned(kernel, domain, vlan=69) == ["numvfs=2"]
    assert planned(kernel, domain, "start", vlan=69) == ["1 vlan=69 until stopped"]
    assert planned(kernel, domain, "start", pf=NIC, vf=0, vlan=69) == []
    assert planned(kernel, domain, "started", vlan=69) == []


def test_a_pool_s_vf_is_known_at_start() -> None:
    kernel = host(2)
    kernel.files[POOL] = "<network><forward mode='hostdev' managed='yes'/></network>"
    before, at_start = vm(networks=("pool",)), vm(interfaces=[0])
    assert planned(kernel, before, vlan=69) == []
    assert planned(kernel, before, vlan=69, pf=NIC) == ["numvfs=2"]
    assert planned(kernel, at_start, "start", vlan=69) == ["0 vlan=69 until stopped"]
    assert not list(pci.plan(Event("vm", "start"), at_start, pci.Options(), kernel))
    (note,) = notes(before, Options(vlan=69), kernel)
    assert "libvirt chooses the VF from network pool when the VM starts" in note


def test_an_ordinary_network_is_no_pool() -> None:
    kernel = host(2)
    kernel.files[POOL] = "<network><forward mode='nat'/></network>"
    assert not list(notes(vm(networks=("pool",)), Options(vlan=69), kernel))
    with pytest.raises(HookError, match="is given no virtual function of a card; choose"):
        planned(kernel, vm(networks=("pool",)), vlan=69)


@pytest.mark.parametrize(
    ("domain", "options", "words"),
    [
        (vm(), {"pf": "eth7"}, "eth7 is not a card with virtual functions"),
        (vm(), {"pf": NIC}, f"no virtual function of {NIC}; choose one"),
        (vm(0, 1), {"mac": "52:54:00:00:00:01"}, "mac is set for 2 virtual functions: VF 0 of"),
        (vm(), {"pf": NIC, "vf": 7}, "can have at most 7 VFs, not 8"),
        (vm(), {"pf": NIC, "numvfs": 8}, "can have at most 7 VFs, not 8"),
        (
            vm(3),
            {"numvfs": 2},
            "VF 3 of 0000:08:00.0 is asked for, but numvfs = 2; set numvfs to 4",
        ),
        (vm(0), {"max_tx_rate": 5, "min_tx_rate": 9}, "min_tx_rate 9 is more than max_tx_rate 5"),
    ],
)
def test_what_cannot_be(domain: Domain, options: dict[str, Any], words: str) -> None:
    with pytest.raises(HookError) as caught:
        planned(host(), domain, **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"vf": 1},
        {"vlan": 4095},
        {"mac": "52:54:00"},
        {"qos": 1},
        {"numvfs": -1},
        {"max_tx_rate": -5},
    ],
)
def test_options_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Options(**options)


def test_a_setting_that_the_driver_has_not() -> None:
    kernel = host(1)
    state = f"/card/{PF}/0"
    kernel.files[state] = kernel.files[state].replace('"trust": false', '"vf_mode": 0')
    with pytest.raises(HookError, match="its driver igb has no trust; remove trust from"):
        VfSetting(PF, 0, "trust").read(kernel)
    with pytest.raises(Gone):
        VfSetting(PF, 1, "trust").read(kernel)


def test_the_number_stays_while_a_vf_is_in_use() -> None:
    kernel = host(2)
    kernel.bind_as_libvirt(card.address(0))
    told = f"VF 0 ({card.address(0)}) is on vfio-pci"
    for value in ("0", "3"):
        with pytest.raises(HookError) as caught:
            VfCount(PF).write(kernel, value)
        assert told in str(caught.value)
    with pytest.raises(HookError, match="has 2 VFs and 4 are needed"):
        planned(kernel, vm(3), trust=True)
    assert planned(kernel, vm(1), trust=True)[0] == "numvfs=2"
    assert kernel.read(COUNT) == "2"


def test_an_interface_is_in_use_when_it_has_a_bridge_or_a_route() -> None:
    kernel, name = host(1), f"{NIC}v0"
    header = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    link_local = "fe80" + "0" * 28 + " 40 " + "0" * 32 + " 00 " + "0" * 32 + " 100 1 0 1 "
    kernel.files["/proc/net/ipv6_route"] = f"{link_local}{name}\n"
    assert list(users(kernel, PF)) == []
    kernel.files["/proc/net/route"] = (
        f"{header}{name}\t0002A8C0\t0\t1\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    assert list(users(kernel, PF)) == [f"VF 0 ({card.address(0)}, igbvf): {name} has an IPv4 route"]
    kernel.links[f"/sys/class/net/{name}/master"] = "br0"
    assert f"{name} is part of br0" in next(users(kernel, PF))
    del kernel.links[f"/sys/class/net/{name}/master"]
    kernel.files["/proc/net/route"] = kernel.files["/proc/net/route"].replace(name, "vlan7")
    assert list(users(kernel, PF)) == []
    kernel.links[f"/sys/class/net/{name}/upper_vlan7"] = "vlan7"
    assert list(users(kernel, PF)) == [f"VF 0 ({card.address(0)}, igbvf): vlan7 has an IPv4 route"]


def test_a_number_that_the_card_refuses_leaves_the_old_one() -> None:
    kernel = host(2)
    with pytest.raises(HookError, match="cannot set 9 VFs: Numerical result out of range"):
        VfCount(PF).write(kernel, "9")
    assert kernel.read(COUNT) == "2"


@pytest.mark.parametrize("count", ["4", "1", "9"])
def test_vfs_that_stay_keep_their_settings(count: str) -> None:
    kernel = host(2)
    set_up = {
        VfSetting(PF, 0, "vlan"): "69 qos 3",
        VfSetting(PF, 0, "mac"): "02:00:00:00:00:07",
        VfSetting(PF, 0, "spoofchk"): "off",
        VfSetting(PF, 1, "rate"): "max 100 min 0",
    }
    for setting, value in set_up.items():
        setting.write(kernel, value)
    with suppress(HookError):
        VfCount(PF).write(kernel, count)
    kept = [setting for setting in set_up if kernel.exists(f"/card/{PF}/{setting.vf}")]
    assert len(kept) == (3 if count == "1" else 4)
    assert {one: one.read(kernel) for one in kept} == {one: set_up[one] for one in kept}


def test_a_setting_that_cannot_be_set_again_is_told() -> None:
    kernel = Forgetful()
    kernel.__dict__.update(host(2).__dict__)
    VfSetting(PF, 0, "vlan").write(kernel, "69")
    kernel.fails = True
    with pytest.raises(HookError, match=r"made again, but without vlan 69 of VF 0 .*ip: no"):
        VfCount(PF).write(kernel, "3")


class Forgetful(Kernel):
    """A host whose card only accepts settings for a while."""

    fails = False

    def run(self, argv: list[str], seconds: float = 30) -> str:
        if self.fails and argv[:3] == ["ip", "link", "set"]:
            raise HookError("ip: no")
        return super().run(argv, seconds)


def test_where_a_vf_is_and_will_be() -> None:
    empty, full = host(), host(7)
    for number in range(7):
        for kernel in (empty, full):
            assert vf_at(kernel, card.address(number)) == Vf(PF, number)
    for address in (PF, card.address(7), "0000:08:10.1", "0001:08:10.0", "nonsense"):
        assert vf_at(empty, address) is None
    assert find_pf(full, NIC) == find_pf(full, PF) == PF
    assert find_pf(full, card.address(0)) is None


def test_a_pf_whose_pci_domain_has_five_digits() -> None:
    """As behind Intel's VMD."""
    pf = "10000:01:00.0"
    kernel = Kernel()
    kernel.files[f"/sys/bus/pci/devices/{pf}/sriov_numvfs"] = "0"
    assert find_pf(kernel, pf) == pf


def test_a_representor_is_not_the_card_s_interface() -> None:
    kernel = host(1)
    kernel.files[f"/sys/bus/pci/devices/{PF}/net/a0/phys_port_name"] = "pf0vf0\n"
    assert VfSetting(PF, 0, "vlan").read(kernel) == "0"


@pytest.mark.parametrize(
    ("base", "counts", "wanted"),
    [("0", (), "0"), ("0", (2, 1), "2"), ("0", (1, 2), "2"), ("4", (2,), "4"), ("1", (3,), "3")],
)
def test_the_highest_claim_holds(base: str, counts: tuple[int, ...], wanted: str) -> None:
    assert target(base, [AtLeast(count) for count in counts]) == wanted


def test_two_tables_of_one_vm(memory: Path) -> None:
    """The first has to make VFs enough for both, as it does for those of the domain."""
    kernel, ledger = host(), Ledger(StateFolder(str(memory)))

    def both(domain: Domain, **first: Any) -> list[Step]:
        event = Event("vm", "prepare")
        return [
            *plan(event, domain, Options(pf=NIC, vf=0, **first), kernel),
            *plan(event, domain, Options(pf=NIC, vf=1, vlan=5), kernel),
        ]

    with pytest.raises(
        HookError, match="at least 1 are asked for first, and then 2; ask for 2 in the"
    ):
        check(both(vm()), uuid(1), ledger, kernel)
    check(both(vm(), numvfs=2), uuid(1), ledger, kernel)
    check(both(vm(0, 1)), uuid(1), ledger, kernel)


def a_card_in_a_group_of_its_own(kernel: Kernel) -> None:
    kernel.links[f"{card.DEVICES}/{PF}/iommu_group"] = "30"
    kernel.links[f"/sys/kernel/iommu_groups/30/devices/{PF}"] = PF
    VfCount(PF).write(kernel, "2")


def lend(kernel: Kernel, *addresses: str) -> list[Step]:
    given = tuple(PciFunction(address, True, "hostdev") for address in addresses)
    domain = Domain("router", uuid(1), pci=given)
    return list(pci.plan(Event("router", "prepare"), domain, pci.Options(), kernel))


def test_a_card_that_is_lent_with_its_vfs_has_them_again(memory: Path) -> None:
    kernel, log = a_host(), Lines()
    a_card_in_a_group_of_its_own(kernel)
    for words in ("0 mac 52:54:00:00:00:07", "1 vlan 69 qos 3", "1 trust on", "1 spoofchk off"):
        number, *setting = words.split()
        card.ip(kernel, ["link", "set", "dev", NIC, "vf", number, *setting])
    before = kernel.state()
    engine = Engine(kernel, StateFolder(str(memory)), log)
    steps = lend(kernel, PF)
    engine.perform("prepare", uuid(1), "router", lambda _: steps)
    assert "2 (they go and come back together with the card)" in "\n".join(log.infos)
    with pytest.raises(HookError, match="which has set it; shut down router"):
        engine.perform("prepare", uuid(2), "b", lambda _: [vf_step(3)])
    kernel.bind_as_libvirt(PF)
    kernel.files[f"{card.DEVICES}/{PF}/sriov_numvfs"] = card.set_count(kernel, "0") + "\n"
    kernel.give_back_as_libvirt(PF)
    assert engine.undo("release", uuid(1)) == []
    assert kernel.state() == before
    assert not log.warnings


def vf_step(count: int) -> Step:
    return Step("sriov", VfCount(PF), AtLeast(count))


@pytest.mark.parametrize(
    ("given", "driver", "told"),
    [
        ((PF,), "vfio-pci", "VF 1 (0000:08:10.2) is on vfio-pci"),
        ((PF, "0000:08:10.2"), "igbvf", "VF 1 (0000:08:10.2) is given to this VM, too"),
    ],
)
def test_a_card_whose_vfs_would_be_missed_is_not_lent(
    given: tuple[str, ...], driver: str, told: str
) -> None:
    kernel = a_host()
    a_card_in_a_group_of_its_own(kernel)
    kernel.links[f"{card.DEVICES}/0000:08:10.2/driver"] = driver
    with pytest.raises(HookError) as caught:
        lend(kernel, *given)
    assert f"lose its virtual functions (2), which are in use: {told}" in str(caught.value)


WISHES: tuple[dict[str, Any], ...] = (
    {"vf": 0},
    {"vf": 1, "vlan": 5},
    {"vf": 1, "vlan": 6},
    {"vf": 3},
)


@settings(max_examples=150, deadline=None)
@given(base=st.sampled_from([0, 2, 7]), order=st.lists(st.integers(0, 3), max_size=12))
def test_no_vm_loses_a_vf_by_another_s_start_or_stop(base: int, order: list[int]) -> None:
    kernel = host(base)
    before = kernel.state()
    running: list[int] = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        engine = Engine(kernel, StateFolder(folder), Lines())
        for one in [*order, *range(4)]:
            if one in running or len(order) == 0:
                if one in running:
                    running.remove(one)
                assert engine.undo("release", uuid(one)) == []
            else:
                options = Options(pf=NIC, **WISHES[one])
                steps = partial(_planned, options, kernel)
                try:
                    engine.perform("prepare", uuid(one), f"vm{one}", steps)
                    running.append(one)
                except HookError as error:
                    assert any(f"VM vm{other} has it" in str(error) for other in running)
            wanted = max((WISHES[other]["vf"] + 1 for other in running), default=0)
            assert int(kernel.read(COUNT)) >= max(base, wanted)
            for other in running:
                vlan = str(WISHES[other].get("vlan", 0))
                assert VfSetting(PF, WISHES[other]["vf"], "vlan").read(kernel) == vlan
        for one in range(4):
            assert engine.undo("release", uuid(one)) == []
        assert kernel.state() == before
        assert [file.name for file in Path(folder).iterdir() if file.name != "lock"] == []


def _planned(options: Options, kernel: Kernel, _: object) -> list[Step]:
    return list(plan(Event("vm", "prepare"), Domain("vm", "u"), options, kernel))


def uuid(number: int) -> str:
    return f"00000000-0000-0000-0000-00000000000{number}"
