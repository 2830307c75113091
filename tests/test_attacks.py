"""What a hostile or broken host can do to the hook: never a traceback, a hang or a lost guest."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.effort import effort
from tests.hosttree import add_pci, domain_xml, gpu_host
from tests.sealed import Result, Sealed, can_seal
from tests.test_vm_folder import ODD_NAMES
from vfio_hooks.domain import identify, parse
from vfio_hooks.errors import HookError

pytestmark = pytest.mark.real_processes
needs_seal = pytest.mark.skipif(not can_seal(), reason="needs root and mount namespaces")
PACKAGES = "/usr/lib/python3/dist-packages"
BOMB = "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'>" + "".join(
    f"<!ENTITY {new} '{f'&{old};' * 10}'>" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
STOLEN = '<!DOCTYPE domain [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
BAD_XML = {
    "empty": b"",
    "64 MiB": b"<domain>" + b" " * (64 << 20) + b"</domain>",
    "not UTF-8": b"<domain><name>\xff\xfe</name></domain>",
    "null bytes": b"<domain>\0</domain>",
    "entity bomb": f"{BOMB}]><domain><name>&i;</name></domain>".encode(),
    "external entity": f"{STOLEN}<domain><name>&x;</name></domain>".encode(),
    "a thousand deep": b"<domain>" * 1000 + b"</domain>" * 1000,
    "another root": b"<network><name>x</name></network>",
    "no name": b"<domain><uuid>6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c11</uuid></domain>",
    "an address of nonsense": domain_xml().replace("0x04", "four").encode(),
}


@pytest.fixture
def sealed(memory: Path) -> Sealed:
    host = Sealed(gpu_host(memory))
    host.manage("win11")
    return host


def is_one_line(result: Result) -> bool:
    return (
        result.code == 1
        and result.stdout == b""
        and result.stderr.startswith("vfio-hooks: ")
        and result.stderr.count("\n") == 1
        and "Traceback" not in result.stderr
    )


@needs_seal
@pytest.mark.parametrize("xml", BAD_XML.values(), ids=BAD_XML)
def test_bad_xml(sealed: Sealed, xml: bytes) -> None:
    result = sealed.hook("win11", "prepare", xml)
    assert is_one_line(result)
    assert "root:" not in result.stderr
    assert len(result.stderr) < 400
    assert sealed.hook("win11", "release", xml).code == 0


PIN = "<cputune><vcpupin vcpu='0' cpuset='9-1'/></cputune>"
UNIT = "<memory unit='bushel'>1</memory><memoryBacking><hugepages/></memoryBacking>"


@needs_seal
@pytest.mark.parametrize(("more", "table"), [(PIN, "irqs"), (UNIT, "hugepages")])
def test_nonsense_in_a_part_that_a_table_needs(sealed: Sealed, more: str, table: str) -> None:
    """It only keeps VMs with such a table from starting."""
    xml = domain_xml(more=more).encode()
    assert sealed.hook("win11", "prepare", xml).code == 0
    assert sealed.hook("win11", "release", xml).code == 0
    sealed.manage("win11", f"[{table}]\n")
    assert is_one_line(sealed.hook("win11", "prepare", xml))


@needs_seal
def test_the_packages_of_others_are_not_looked_at(sealed: Sealed) -> None:
    """Not even broken or hostile ones, whatever the event does, except for a VM's own modules."""
    hide = 'mount --bind "$1" "$2"; shift 2; exec "$@"'
    (sealed.root / "others").mkdir()
    for name in ("lxml", "sh", "mine"):
        (sealed.root / f"others/{name}.py").write_text("open('/run/imported', 'a').close()\n")
    (sealed.root / "others/all.pth").write_text("import mine\n")

    def event(op: str) -> Result:
        hook = ("/etc/libvirt/hooks/qemu", "win11", op, "begin", "-")
        argv = ("sh", "-c", hide, "sh", str(sealed.root / "others"), PACKAGES, *hook)
        return sealed.run(*argv, stdin=domain_xml())

    for op in ("prepare", "start", "started", "stopped", "release"):
        assert event(op) == Result(0, b"", "")
    assert not (sealed.root / "run/imported").exists()
    folder = sealed.hooks / "qemu.d/win11"
    (folder / "own.py").write_text("import mine\n\ndef plan(*_):\n    return ()\n")
    assert event("prepare").code == 0
    assert (sealed.root / "run/imported").exists()


@needs_seal
def test_a_half_upgraded_package(sealed: Sealed, memory: Path) -> None:
    """The dispatcher is there, but what it imports later is missing, or from another version."""
    library = memory / "library"
    (library / "vfio_hooks").mkdir(parents=True)
    own = Path(__file__).parents[1] / "vfio_hooks"
    for name in ("__init__.py", "dispatch.py", "errors.py"):
        (library / "vfio_hooks" / name).write_bytes((own / name).read_bytes())
    sealed.install(library)
    assert is_one_line(sealed.hook("win11", "prepare", domain_xml()))
    for op in ("started", "stopped", "release", "reconnect"):
        assert sealed.hook("win11", op, domain_xml()) == Result(0, b"", "")


@needs_seal
@pytest.mark.parametrize("ops", [["release"], ["stopped", "release", "stopped", "release"]])
def test_an_end_without_a_beginning(sealed: Sealed, ops: list[str]) -> None:
    for op in ops:
        assert sealed.hook("win11", op, domain_xml()) == Result(0, b"", "")


@needs_seal
@pytest.mark.parametrize("way", ["link", "file", "another's", "read-only", "open to all"])
def test_the_state_folder_is_not_ours(sealed: Sealed, way: str) -> None:
    elsewhere = sealed.root / "elsewhere"
    elsewhere.mkdir()
    match way:
        case "link":
            sealed.state.symlink_to(elsewhere)
        case "file":
            sealed.state.touch()
        case "another's":
            sealed.state.mkdir()
            os.chown(sealed.state, 65534, 65534)
        case "open to all":
            sealed.state.mkdir()
            sealed.state.chmod(0o777)
        case "read-only":
            sealed.state.mkdir(mode=0o700)
            enter = 'mount -o bind,ro /run/vfio-hooks /run/vfio-hooks && exec "$@"'
            hook = ("/etc/libvirt/hooks/qemu", "win11", "prepare", "begin", "-")
            result = sealed.run("sh", "-c", enter, "sh", *hook, stdin=domain_xml())
            assert is_one_line(result)
            assert "Read-only file system" in result.stderr
            return
    assert is_one_line(sealed.hook("win11", "prepare", domain_xml()))
    assert sealed.hook("win11", "release", domain_xml()) == Result(0, b"", "")
    assert not list(elsewhere.iterdir())


@needs_seal
def test_a_full_state_folder(sealed: Sealed) -> None:
    """Room for the lock and a few bytes."""
    sealed.state.mkdir(mode=0o700)
    mount = "mount -t tmpfs -o size=4k,mode=700 none /run/vfio-hooks"
    fill = f"{mount}; head -c 4096 /dev/zero > /run/vfio-hooks/x 2>/dev/null"
    hook = ("/etc/libvirt/hooks/qemu", "win11", "prepare", "begin", "-")
    result = sealed.run("sh", "-c", f'{fill}; exec "$@"', "sh", *hook, stdin=domain_xml())
    assert is_one_line(result)
    assert "No space left on device" in result.stderr


@needs_seal
@pytest.mark.parametrize("vm", ODD_NAMES)
def test_a_vm_of_any_name_comes_and_goes_beside_another(sealed: Sealed, vm: str) -> None:
    uuid = "6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c12"
    odd = domain_xml(vm, uuid, ("0000:05:00.0",))
    sealed.manage(vm)
    for op in ("prepare", "start"):
        assert sealed.hook(vm, op, odd) == Result(0, b"", "")
    refused = sealed.hook("win11", "prepare", domain_xml(functions=("0000:05:00.0",)))
    assert f"0000:05:00.0: VM {' '.join(vm.split())} has it" in refused.stderr
    assert sealed.hook("win11", "prepare", domain_xml()).code == 0
    # Without its XML it is known by its name.
    assert sealed.hook(vm, "release") == Result(0, b"", "")
    assert sealed.hook("win11", "release", domain_xml()).code == 0
    assert not sealed.journals()


@needs_seal
def test_many_vms_at_once(memory: Path) -> None:
    count = effort(6, 20)
    vms = [f"vm{number}" for number in range(count)]
    for number in range(count):
        add_pci(memory, f"0000:{16 + number:02x}:00.0", "e1000e", str(20 + number))
    sealed = Sealed(memory)

    def live(number: int) -> list[int]:
        uuid = f"6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c{number:02x}"
        xml = domain_xml(vms[number], uuid, (f"0000:{16 + number:02x}:00.0",))
        ops = ("prepare", "start", "started", "stopped", "release")
        return [sealed.hook(vms[number], op, xml).code for op in ops]

    for vm in vms:
        sealed.manage(vm)
    with ThreadPoolExecutor(count) as pool:
        assert list(pool.map(live, range(count))) == [[0] * 5] * count
    assert not sealed.journals()


@needs_seal
def test_a_clock_that_jumps(sealed: Sealed) -> None:
    """The newest claim is not found by the clock: see Claim.number."""
    sealed.manage("linux")
    uuid = "6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c12"
    other = domain_xml("linux", uuid, ("0000:05:00.0",))
    assert sealed.hook("win11", "prepare", domain_xml()).code == 0
    journal = next(sealed.state.glob("*.journal"))
    lines = [line.replace('"time":1', '"time":9') for line in journal.read_text().splitlines()]
    journal.write_text("\n".join(lines) + "\n")
    assert sealed.hook("linux", "prepare", other).code == 0
    assert sealed.hook("win11", "release", domain_xml()).code == 0
    assert sealed.hook("linux", "release", other).code == 0
    assert not sealed.journals()


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 900), st.integers(0, 40), st.binary(max_size=30) | st.text().map(str.encode))
def test_any_xml_is_a_domain_or_one_line(start: int, length: int, noise: bytes) -> None:
    """A whole domain with a piece of it replaced."""
    whole = domain_xml(
        more="<memory unit='KiB'>1048576</memory><vcpu>2</vcpu><cputune>"
        "<vcpupin vcpu='0' cpuset='0-1'/></cputune><numatune><memory nodeset='0'/></numatune>"
    ).encode()
    xml = whole[:start] + noise + whole[start + length :]
    identify(xml)
    try:
        parse(xml)
    except HookError as error:
        assert "\n" not in str(error)
