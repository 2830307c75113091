"""The governor plugin: what it plans, what it refuses, and that several VMs get along."""

import errno
import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import hotplug
from tests.fakes.cpufreq import FOLDER, LATENCY, add_latency, add_policy
from tests.fakes.kernel import Kernel, Lines
from vfio_hooks.domain import Domain
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.knobs.frequency import Frequency
from vfio_hooks.knobs.governor import Governor
from vfio_hooks.plugins.governor import Options, plan
from vfio_hooks.record import replace
from vfio_hooks.steps import Step

PREPARE = Event("vm", "prepare")


def a_host(driver: str = "acpi-cpufreq", governor: str = "schedutil") -> Kernel:
    """Four policies of two CPUs each."""
    kernel = Kernel()
    for number in range(4):
        add_policy(kernel, number, f"{2 * number} {2 * number + 1}", driver, governor)
    return kernel


def a_vm(*pinned: int) -> Domain:
    return Domain("vm", "u", vcpu_pins={i: frozenset({cpu}) for i, cpu in enumerate(pinned)})


def told(steps: Iterable[Step]) -> list[str]:
    """Steps as "policy0/scaling_governor=performance"."""
    return [
        f"{step.key.removeprefix(FOLDER + '/')}={getattr(step.share, 'value', '')}"
        for step in steps
    ]


def planned(kernel: Kernel, domain: Domain, **options: Any) -> list[str]:
    return told(plan(PREPARE, domain, Options(**options), kernel))


def test_an_empty_table_is_performance_on_the_policies_of_the_pinned_cpus() -> None:
    assert planned(a_host(), a_vm(2, 3, 7)) == [
        "policy1/scaling_governor=performance",
        "policy3/scaling_governor=performance",
    ]


@pytest.mark.parametrize("options", [{"cpus": "all"}, {}])
def test_all_policies_when_asked_for_or_when_nothing_is_pinned(options: dict[str, str]) -> None:
    domain = a_vm(2) if options else a_vm()
    assert len(planned(a_host(), domain, **options)) == 4


def test_only_prepare_plans() -> None:
    assert not list(plan(Event("vm", "started"), a_vm(0), Options(), a_host()))


def test_a_policy_whose_cpus_are_offline_is_left_out() -> None:
    kernel = a_host()
    kernel.files[f"{FOLDER}/policy1/affected_cpus"] = "\n"
    assert planned(kernel, a_vm(0, 2)) == ["policy0/scaling_governor=performance"]


@pytest.mark.parametrize("same_vm", [False, True])
def test_a_policy_that_is_offline_at_the_end_of_a_vm(same_vm: bool, memory: Path) -> None:
    kernel, log = a_host(), Lines()
    kernel.files[hotplug.ONLINE] = "0-7\n"
    uuid = "00000000-0000-0000-0000-00000000000{}"
    vms = [replace(a_vm(0, 6), uuid=uuid.format(1)), replace(a_vm(2), uuid=uuid.format(2))]
    before = kernel.state()
    engine = Engine(kernel, StateFolder(str(memory)), log)
    options = Options(min_freq=2800000)

    def start(vm: Domain) -> None:
        event = Event(vm.name, "prepare")
        engine.perform(
            "prepare", vm.uuid, vm.name, lambda _: list(plan(event, vm, options, kernel))
        )

    start(vms[0])
    hotplug.set_online(kernel, "0-5")
    problems = engine.undo("release", vms[0].uuid)
    assert problems == [
        f"{FOLDER}/policy3/{file}: its CPU is offline"
        for file in ("scaling_min_freq", "scaling_governor")
    ]
    start(vms[not same_vm])
    hotplug.set_online(kernel, "0-7")
    if same_vm:
        assert engine.undo("release", vms[0].uuid) == []
    else:
        assert engine.undo("release", vms[1].uuid) == []
    assert kernel.state() == before
    assert not list(memory.glob("*.journal"))


def test_the_preference_is_set_before_performance_and_after_anything_else() -> None:
    kernel = a_host("intel_pstate", "powersave")
    assert planned(kernel, a_vm(0)) == [
        "policy0/energy_performance_preference=performance",
        "policy0/scaling_governor=performance",
    ]
    assert planned(
        kernel, a_vm(0), governor="powersave", energy_performance_preference="power"
    ) == [
        "policy0/scaling_governor=powersave",
        "policy0/energy_performance_preference=power",
    ]


@pytest.mark.parametrize(
    ("now", "preference", "steps"),
    [
        ("powersave", None, []),
        ("performance", None, []),
        ("powersave", "power", ["policy0/energy_performance_preference=power"]),
        ("performance", "performance", ["policy0/energy_performance_preference=performance"]),
    ],
)
def test_a_governor_may_stay_as_it_is(now: str, preference: str | None, steps: list[str]) -> None:
    kernel = a_host("intel_pstate", now)
    options = {"governor": "unchanged", "energy_performance_preference": preference}
    assert planned(kernel, a_vm(0), **options) == steps
    assert planned(kernel, a_vm(0), **options, min_freq=2_000_000) == [
        *steps,
        "policy0/scaling_min_freq=2000000",
    ]


def test_a_preference_is_refused_beside_performance_that_stays() -> None:
    kernel = a_host("amd-pstate-epp", "performance")
    with pytest.raises(HookError, match="allows only the energy_performance_preference"):
        planned(kernel, a_vm(0), governor="unchanged", energy_performance_preference="power")


def test_min_freq_is_what_the_kernel_will_show() -> None:
    assert planned(a_host(), a_vm(0), min_freq=2_000_000)[1:] == [
        "policy0/scaling_min_freq=2800000"
    ]
    active = a_host("amd-pstate-epp", "powersave")
    assert planned(active, a_vm(0), min_freq=2_000_000)[2:] == ["policy0/scaling_min_freq=2000000"]


def test_a_frequency_that_only_boost_reaches() -> None:
    kernel = a_host()
    kernel.files[f"{FOLDER}/boost"] = "0\n"
    assert planned(kernel, a_vm(0), min_freq=4_000_000, boost=True) == [
        "boost=1",
        "policy0/scaling_governor=performance",
        "policy0/scaling_min_freq=4000000",
    ]


@pytest.mark.parametrize(
    ("path", "boost", "value"),
    [
        (f"{FOLDER}/boost", True, "1"),
        (f"{FOLDER}/boost", False, "0"),
        ("/sys/devices/system/cpu/intel_pstate/no_turbo", True, "0"),
        ("/sys/devices/system/cpu/intel_pstate/no_turbo", False, "1"),
    ],
)
def test_boost_is_one_switch_for_the_host(path: str, boost: bool, value: str) -> None:
    kernel = a_host()
    kernel.files[path] = "1\n"
    key = path.removeprefix(FOLDER + "/")
    assert planned(kernel, a_vm(0), boost=boost)[0] == f"{key}={value}"


def test_a_governor_that_is_a_module_is_loaded_first() -> None:
    kernel = a_host()
    kernel.files |= {
        "/proc/sys/kernel/osrelease": "6.12\n",
        "/lib/modules/6.12/modules.dep": "kernel/drivers/cpufreq/cpufreq_ondemand.ko.xz:\n",
    }
    steps = planned(kernel, a_vm(0), governor="ondemand")
    assert steps == [
        "/sys/module/cpufreq_ondemand=loaded",
        "policy0/scaling_governor=ondemand",
    ]
    with pytest.raises(HookError, match="no governor 'conservative'"):
        planned(kernel, a_vm(0), governor="conservative")


@pytest.mark.parametrize(
    ("driver", "options", "words"),
    [
        ("acpi-cpufreq", {"governor": "ondemand"}, "there are: performance, schedutil"),
        ("intel_pstate", {"governor": "schedutil"}, "there are: performance, powersave"),
        ("acpi-cpufreq", {"min_freq": 4_000_000}, "from 1800000 to 3600000"),
        ("acpi-cpufreq", {"boost": True}, "cannot switch boost"),
        ("acpi-cpufreq", {"energy_performance_preference": "power"}, "remove it"),
        ("amd-pstate-epp", {"energy_performance_preference": "power"}, 'governor = "powersave"'),
        (
            "intel_pstate",
            {"governor": "powersave", "energy_performance_preference": "default"},
            "there are: performance, balance_performance, balance_power, power",
        ),
    ],
)
def test_what_cannot_be_is_said_with_what_can(
    driver: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(HookError) as caught:
        planned(a_host(driver, "performance"), a_vm(0), **options)
    assert words in str(caught.value)


def test_a_host_without_cpufreq_is_told_so() -> None:
    with pytest.raises(HookError, match="no CPU frequency control"):
        planned(Kernel(), a_vm(0))


def test_pins_that_are_on_no_policy_are_told() -> None:
    with pytest.raises(HookError, match="CPUs 8-9, which the domain is pinned to"):
        planned(a_host(), a_vm(8, 9))


def test_a_frequency_shows_a_moment_after_it_was_written() -> None:
    class Late(Kernel):
        """Like the real driver: a worker carries out a change of the limits."""

        looks = 0

        def read(self, name: str) -> str:
            if name.endswith("/scaling_min_freq"):
                self.looks += 1
                return "2800000" if self.looks > 3 else "1800000"
            return super().read(name)

    kernel = Late()
    kernel.files |= a_host().files
    knob = Frequency(f"{FOLDER}/policy0/scaling_min_freq")
    knob.write(kernel, "2800000")
    with pytest.raises(HookError, match="'3600000' was asked for, but the host shows '2800000'"):
        replace(knob, seconds=0.1).write(kernel, "3600000")


class Nameless(Kernel):
    """amd-pstate with a preference of the firmware for which it has no name."""

    def read(self, name: str) -> str:
        if name.endswith("/energy_performance_preference"):
            raise OSError(errno.EINVAL, "Invalid argument", name)
        return super().read(name)


def test_a_preference_that_nobody_asked_for_and_nothing_shows_is_left_out(memory: Path) -> None:
    kernel, log = Nameless(), Lines()
    kernel.files |= a_host("amd-pstate-epp", "powersave").files
    engine = Engine(kernel, StateFolder(str(memory)), log)
    asked = Options(energy_performance_preference="performance")
    for options in (Options(), asked):
        steps = list(plan(PREPARE, a_vm(0), options, kernel))
        if options is asked:
            with pytest.raises(HookError, match="the driver has no name for"):
                engine.perform("prepare", uuid(1), "vm", partial(_these, steps))
            continue
        engine.perform("prepare", uuid(1), "vm", partial(_these, steps))
        assert kernel.files[f"{FOLDER}/policy0/scaling_governor"] == "performance\n"
        assert "going on without it: " in "".join(log.warnings)
        assert engine.undo("release", uuid(1)) == []
        assert kernel.files[f"{FOLDER}/policy0/scaling_governor"] == "powersave\n"


def test_a_preference_that_is_shown_is_claimed_in_any_case() -> None:
    kernel = a_host("amd-pstate-epp", "powersave")
    assert all(step.required for step in plan(PREPARE, a_vm(0), Options(), kernel))


def latencies(kernel: Kernel) -> dict[int, str]:
    """The limit of each CPU, as its file shows it."""
    return {
        int(path.split("/")[5].removeprefix("cpu")): text.strip()
        for path, text in kernel.files.items()
        if path.endswith(LATENCY)
    }


@pytest.mark.parametrize(
    ("asked", "shown"),
    # The kernel's own 0 is no limit at all.
    [(0, "n/a"), (1, "1"), (20, "20"), ((1 << 31) - 2, "2147483646")],
)
def test_the_exit_latency_of_the_vms_cpus_alone(asked: int, shown: str, memory: Path) -> None:
    kernel = a_host()
    add_latency(kernel, *range(8))
    kernel.files[f"/sys/devices/system/cpu/cpu3/power/{LATENCY}"] = "90\n"
    before, host = kernel.state(), latencies(kernel)
    engine = Engine(kernel, StateFolder(str(memory)), Lines())
    steps = list(plan(PREPARE, a_vm(2, 3), Options(max_exit_latency=asked), kernel))
    engine.perform("prepare", uuid(1), "vm", partial(_these, steps))
    assert latencies(kernel) == {**host, 2: shown, 3: shown}
    assert engine.undo("release", uuid(1)) == []
    assert kernel.state() == before


@pytest.mark.parametrize(
    ("domain", "options", "cpus"),
    [(a_vm(5), {}, [5]), (a_vm(), {}, [*range(8)]), (a_vm(5), {"cpus": "all"}, [*range(8)])],
)
def test_whose_exit_latency(domain: Domain, options: dict[str, Any], cpus: list[int]) -> None:
    kernel = a_host()
    kernel.files[hotplug.ONLINE] = "0-7\n"
    add_latency(kernel, *range(8))
    steps = planned(kernel, domain, max_exit_latency=20, **options)
    found = [step for step in steps if LATENCY in step]
    assert found == [f"/sys/devices/system/cpu/cpu{cpu}/power/{LATENCY}=20" for cpu in cpus]


def test_a_cpu_without_such_a_limit_is_told() -> None:
    kernel = a_host()
    add_latency(kernel, 2)
    with pytest.raises(HookError, match="CPU 3 has no limit for its idle states"):
        planned(kernel, a_vm(2, 3), max_exit_latency=0)
    assert not any(LATENCY in step for step in planned(kernel, a_vm(2, 3)))


@pytest.mark.parametrize(
    "options",
    [
        {"governor": "per formance"},
        {"min_freq": 0},
        {"max_exit_latency": -1},
        {"max_exit_latency": (1 << 31) - 1},
    ],
)
def test_options_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Options(**options)


WISHES: tuple[dict[str, Any], ...] = (
    {},
    {
        "governor": "powersave",
        "energy_performance_preference": "balance_power",
        "max_exit_latency": 0,
    },
    {"governor": "powersave", "min_freq": 2_800_000, "max_exit_latency": 50},
)


@settings(max_examples=100, deadline=None)
@given(
    driver=st.sampled_from(["intel_pstate", "amd-pstate-epp"]),
    governor=st.sampled_from(["performance", "powersave"]),
    order=st.lists(st.integers(0, 2), min_size=1, max_size=12),
)
def test_any_order_of_vms_in_active_mode_ends_where_it_began(
    driver: str, governor: str, order: Sequence[int]
) -> None:
    kernel = a_host(driver, governor)
    add_latency(kernel, *range(8))
    before = kernel.state()
    running: list[int] = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        engine = Engine(kernel, StateFolder(folder), Lines())

        def stop(vm: int) -> None:
            running.remove(vm)
            assert engine.undo("release", uuid(vm)) == []

        for vm in order:
            if vm in running:
                stop(vm)
            else:
                steps = list(plan(PREPARE, a_vm(vm, 2), Options(**WISHES[vm]), kernel))
                engine.perform("prepare", uuid(vm), f"vm{vm}", partial(_these, steps))
                running.append(vm)
            newest = WISHES[running[-1]].get("governor", "performance") if running else governor
            assert kernel.read(f"{FOLDER}/policy1/scaling_governor") == newest
            wanted = [WISHES[vm].get("max_exit_latency") for vm in running]
            limits = [str(limit or "n/a") for limit in wanted if limit is not None]
            assert latencies(kernel)[2] == (limits or ["0"])[-1]
        for vm in list(running):
            stop(vm)
        assert kernel.state() == before
        assert [file.name for file in Path(folder).iterdir() if file.name != "lock"] == []


TUNED = {
    "ondemand": {"up_threshold": "60"},
    "conservative": {"up_threshold": "95", "down_threshold": "85"},
    "schedutil": {"rate_limit_us": "500"},
}


def tuned(governor: str, count: int, per_policy: bool) -> Kernel:
    """Two of three policies, or all, with a governor that somebody has tuned."""
    kernel = Kernel()
    kernel.per_policy = per_policy
    for number in range(3):
        name = governor if number < count else "performance"
        add_policy(kernel, number, f"{2 * number} {2 * number + 1}", governor=name)
        available = f"{FOLDER}/policy{number}/scaling_available_governors"
        kernel.files[available] = f"performance {' '.join(TUNED)}\n"
        folder = f"{FOLDER}/policy{number}" if per_policy else FOLDER
        for file, text in TUNED[governor].items() if number < count else ():
            kernel.write(f"{folder}/{governor}/{file}", text)
    return kernel


@settings(max_examples=200, deadline=None)
@given(
    governor=st.sampled_from(list(TUNED)),
    count=st.integers(1, 3),
    per_policy=st.booleans(),
    order=st.lists(st.integers(0, 2), min_size=1, max_size=8),
)
def test_tunables_come_back_after_any_order_of_vms(
    governor: str, count: int, per_policy: bool, order: Sequence[int]
) -> None:
    """Of VMs that want other governors: one that wants this one keeps its tunables as they are."""
    kernel = tuned(governor, count, per_policy)
    choices = ["performance", *(name for name in TUNED if name != governor)]
    before = kernel.state()
    running: list[int] = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        engine = Engine(kernel, StateFolder(folder), Lines())
        for vm in order:
            if vm in running:
                running.remove(vm)
                assert engine.undo("release", uuid(vm)) == []
            else:
                steps = list(plan(PREPARE, a_vm(vm, 2, 4), Options(choices[vm]), kernel))
                engine.perform("prepare", uuid(vm), f"vm{vm}", partial(_these, steps))
                running.append(vm)
        for vm in running:
            assert engine.undo("release", uuid(vm)) == []
    assert kernel.state() == before


def test_a_governor_that_was_tuned_meanwhile(memory: Path) -> None:
    """Policy 1 keeps it, so that it is somebody else's; and a VM asks for what there is."""
    kernel = tuned("ondemand", 2, per_policy=False)
    engine = Engine(kernel, StateFolder(str(memory)), Lines())
    for choice, left in (("performance", "61"), ("ondemand", "62")):
        steps = list(plan(PREPARE, a_vm(0), Options(choice), kernel))
        engine.perform("prepare", uuid(1), "vm", partial(_these, steps))
        kernel.write(f"{FOLDER}/ondemand/up_threshold", left)
        assert engine.undo("release", uuid(1)) == []
        assert kernel.read(f"{FOLDER}/policy0/scaling_governor") == "ondemand"
        assert kernel.read(f"{FOLDER}/ondemand/up_threshold") == left


def test_a_tunable_that_the_kernel_refuses_is_a_failure() -> None:
    """But not one of two thresholds that has to wait for the other."""
    kernel = tuned("conservative", 1, per_policy=False)
    knob = Governor(f"{FOLDER}/policy0/scaling_governor")
    both = "conservative (down_threshold=30,up_threshold=40)"
    kernel.write(f"{FOLDER}/policy0/scaling_governor", "performance")
    knob.write(kernel, both)
    kernel.refuses = {f"{FOLDER}/conservative/up_threshold"}
    kernel.write(f"{FOLDER}/policy0/scaling_governor", "performance")
    with pytest.raises(HookError, match="conservative/up_threshold: "):
        knob.write(kernel, "conservative (down_threshold=30,up_threshold=50)")


def test_the_speed_of_userspace_comes_back() -> None:
    kernel = a_host()
    speed = f"{FOLDER}/policy0/scaling_setspeed"
    kernel.files[f"{FOLDER}/policy0/scaling_available_governors"] = "performance userspace\n"
    kernel.files[speed] = "3600000\n"
    knob = Governor(f"{FOLDER}/policy0/scaling_governor")
    knob.write(kernel, "userspace (scaling_setspeed=2800000)")
    assert (kernel.read(speed), knob.read(kernel)) == (
        "2800000",
        "userspace (scaling_setspeed=2800000)",
    )


def _these(steps: list[Step], _: object) -> list[Step]:
    return steps


def uuid(vm: int) -> str:
    return f"00000000-0000-0000-0000-00000000000{vm}"
