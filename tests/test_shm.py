"""The shm plugin on the fake kernel, and shared files on a real /dev/shm, with attackers."""

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.kernel import Kernel, Lines, a_host
from tests.hosttree import domain_xml
from tests.test_sriov import uuid
from vfio_hooks.domain import Domain, parse
from vfio_hooks.domain.devices import SharedMemory
from vfio_hooks.domain.files import LOCAL_PROFILE, PROFILE
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.host import WritableHost
from vfio_hooks.host.shared_memory import Access, Shared
from vfio_hooks.knobs.shared_file import SharedFile
from vfio_hooks.plugins.shm import Options, notes, plan
from vfio_hooks.record import replace
from vfio_hooks.sharing import Override
from vfio_hooks.steps import Step

GLASS = SharedMemory("/dev/shm/looking-glass", 64 << 20)
KVMFR = SharedMemory("/dev/kvmfr0", 128 << 20, arguments=True)
QEMU, QEMU_GROUP, ALICE, MALLORY = 64055, 993, 1000, 1001
CONFINED = {PROFILE: "\n", "/sys/module/apparmor/parameters/enabled": "Y\n"}
USABLE = 'cgroup_device_acl = [ "/dev/kvmfr0" ]\n'
NAMESPACE = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"


@pytest.fixture(autouse=True)
def accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users and groups of Debian's libvirt, whatever this machine has."""
    users = {"libvirt-qemu": QEMU, "alice": ALICE, "mallory": MALLORY, "root": 0}
    names = {number: name for name, number in users.items()}
    groups = {"kvm": QEMU_GROUP, "alice": ALICE}

    def user(name: str) -> pwd.struct_passwd:
        return pwd.struct_passwd((name, "x", users[name], QEMU_GROUP, "", "/", "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwnam", user)
    monkeypatch.setattr(pwd, "getpwuid", lambda number: user(names[number]))
    monkeypatch.setattr(pwd, "getpwall", lambda: list(map(user, users)))
    every = [grp.struct_group((name, "x", number, [])) for name, number in groups.items()]
    monkeypatch.setattr(grp, "getgrall", lambda: every)


def steps(kernel: Kernel, *memories: SharedMemory, **options: Any) -> list[Step]:
    domain = Domain("vm", "u", shared=memories)
    return list(plan(Event("vm", "prepare"), domain, Options(**options), kernel))


def planned(kernel: Kernel, *memories: SharedMemory, **options: Any) -> list[str]:
    return [
        f"{step.key} {getattr(step.share, 'value', '')}"
        for step in steps(kernel, *memories, **options)
    ]


@pytest.mark.parametrize(
    ("options", "access"),
    [
        ({}, "64055:993 0660"),
        ({"owner": "alice"}, "1000:993 0660"),
        ({"owner": "alice", "group": "alice", "mode": "600"}, "1000:1000 0600"),
    ],
)
def test_who_may_use_it(options: dict[str, str], access: str) -> None:
    kernel = a_host()
    made = f"{GLASS.path} {access}, made for VMs"
    assert planned(kernel, GLASS, **options) == [made]
    (step,) = steps(kernel, GLASS, **options)
    step.knob.write(kernel, f"{access}, made for VMs")
    assert kernel.look(GLASS.path) == Shared(Access.parse(access), 64 << 20, is_made=True)
    assert planned(kernel, GLASS, **options) == [made]


def test_a_file_that_was_there_is_not_made() -> None:
    kernel = a_host()
    kernel.shared[GLASS.path] = Shared(Access(ALICE, ALICE, 0o644), 64 << 20)
    assert planned(kernel, GLASS, owner="alice") == [f"{GLASS.path} 1000:993 0660"]


def test_which_files() -> None:
    kernel = a_host()
    scream = SharedMemory("/dev/shm/scream-ivshmem", 2 << 20)
    assert len(planned(kernel, GLASS, scream)) == 2
    assert planned(kernel, GLASS, scream, name="looking-glass", size=32)[0].startswith(GLASS.path)
    (step,) = steps(kernel, GLASS, name="other", size=32)
    assert step.knob == SharedFile("/dev/shm/other", 32 << 20)


@pytest.mark.parametrize(
    ("memories", "options", "words"),
    [
        ((), {}, "has no <shmem>; give it one, or name a file"),
        ((), {"name": "x"}, "domain vm does not say how large /dev/shm/x is; set size"),
        ((SharedMemory("/dev/shm/../etc/shadow", 9),), {}, "is not a file in /dev/shm"),
        ((SharedMemory("/dev/shm/a/b", 9),), {}, "is not a file in /dev/shm"),
        ((GLASS,), {"owner": "nobody-here"}, "there is no user 'nobody-here'"),
    ],
)
def test_what_cannot_be(
    memories: tuple[SharedMemory, ...], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(HookError) as caught:
        planned(a_host(), *memories, **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{"name": "a/b"}, {"name": ".x"}, {"name": ""}, {"size": 0}, {"mode": "4755"}, {"mode": "rw"}],
)
def test_options_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Options(**options)


def test_what_another_user_has_put_there_is_refused() -> None:
    kernel = a_host()
    kernel.shared[GLASS.path] = Shared(Access(MALLORY, MALLORY, 0o666), 64 << 20)
    with pytest.raises(HookError, match=r"another user \(mallory, .* or say owner = \"mallory\""):
        planned(kernel, GLASS)
    assert planned(kernel, GLASS, owner="mallory")
    kernel.shared[GLASS.path] = Shared(Access(MALLORY, MALLORY, 0o777), 11, other="a symbolic link")
    (step,) = steps(kernel, GLASS)
    with pytest.raises(HookError, match="a symbolic link: it is left alone; find out"):
        step.knob.read(kernel)
    kernel.shared[GLASS.path] = Shared(Access(QEMU, QEMU, 0o644), 1 << 20)
    with pytest.raises(HookError, match="has 1 MiB, but the domain wants 64 MiB"):
        planned(kernel, GLASS)


def test_kvmfr_is_loaded_in_the_domain_s_size_and_its_node_given() -> None:
    kernel = a_host()
    load, node = steps(kernel, KVMFR, owner="alice")
    assert planned(kernel, KVMFR, owner="alice") == [
        "/sys/module/kvmfr loaded",
        "/dev/kvmfr0 1000:993 0660",
    ]
    assert node.awaits == load.key
    with pytest.raises(HookError, match="modprobe: no such program"):
        load.knob.write(kernel, "loaded")
    assert kernel.ran[-1] == ["modprobe", "--", "kvmfr", "static_size_mb=128"]
    kernel.shared[KVMFR.path] = Shared(Access(0, 0, 0o600), is_device=True)
    (node,) = steps(kernel, KVMFR, owner="alice")
    base = node.knob.read(kernel)
    node.knob.write(kernel, "1000:993 0660")
    node.knob.write(kernel, base)
    assert kernel.shared[KVMFR.path].access == Access(0, 0, 0o600)


def test_kvmfr_that_cannot_be() -> None:
    kernel = a_host()
    kernel.files["/sys/module/kvmfr/refcnt"] = "0\n"
    with pytest.raises(HookError, match="does not exist, though kvmfr is loaded; rmmod"):
        planned(kernel, KVMFR)
    kernel = a_host()
    kernel.files |= {"/proc/sys/kernel/osrelease": "6\n", "/lib/modules/6/modules.dep": "\n"}
    with pytest.raises(HookError, match="this kernel has no module kvmfr; install it"):
        planned(kernel, KVMFR)


def test_what_keeps_qemu_out_is_noted() -> None:
    kernel, domain = a_host(), Domain("vm", "u", shared=(GLASS, KVMFR))
    kernel.files |= CONFINED
    assert list(notes(domain, Options(), kernel)) == [
        f"AppArmor keeps QEMU from /dev/kvmfr0: add the line /dev/kvmfr0 rw, to {LOCAL_PROFILE}",
        "/dev/kvmfr0 is not in cgroup_device_acl in /etc/libvirt/qemu.conf",
    ]
    kernel.files |= {LOCAL_PROFILE: "/dev/kvmfr0 rw,\n", "/etc/libvirt/qemu.conf": USABLE}
    assert not list(notes(domain, Options(), kernel))


RULES: list[tuple[str, bool]] = [
    ("  /dev/kvmfr0 rw,", True),
    ("/dev/kvmfr* rw,", True),
    ("/dev/kvmfr[0-9] rwk,", True),
    ("/dev/kvmfr[1-9] rw,", False),
    ("/dev/{shm/looking-glass,kvmfr?} rw,", True),
    ("/dev/{shm/{a,b},kvmfr{0,1}} rw,", True),
    ("/dev/{shm/{a,b},kvmfr{1,2}} rw,", False),
    ("/dev/{kvmfr0 rw,", False),
    ("rw /dev/kvmfr0,", True),
    ('owner file rwk "/dev/kvmfr*",', True),
    ("r /dev/kvmfr0,", False),
    ("/dev/** rw,\ndeny w /dev/kvmfr0,", False),
    ("/dev/** rw,", True),
    ("/*/kvmfr0 rw ,", True),
    ("/* rw,", False),
    ('owner "/dev/kvmfr0" rw,', True),
    ("audit allow file /dev/kvmfr0 rw,", True),
    ("/dev/kvmfr0 r,", False),
    ("/dev/kvmfr0 r,\n/dev/kvm* w,", True),
    ("/dev/kvmfr* rw,\ndeny /dev/kvmfr0 w,", False),
    ("# /dev/kvmfr0 rw,", False),
    ("/dev/kvmfr01 rw,", False),
    ("/dev/kvmfr0-not rw,", False),
    ("/dev/kvmfr[9-0] rw,", False),
]


@pytest.mark.parametrize(("rules", "allowed"), RULES)
def test_what_apparmor_lets_qemu_use(rules: str, allowed: bool) -> None:
    kernel, domain = a_host(), Domain("vm", "u", shared=(KVMFR,))
    kernel.files |= {**CONFINED, LOCAL_PROFILE: f"{rules}\n", "/etc/libvirt/qemu.conf": USABLE}
    assert bool(list(notes(domain, Options(), kernel))) is not allowed


def test_without_apparmor_nothing_is_noted_of_it() -> None:
    kernel, domain = a_host(), Domain("vm", "u", shared=(KVMFR,))
    kernel.files |= {PROFILE: "\n", "/etc/libvirt/qemu.conf": USABLE}
    assert not list(notes(domain, Options(), kernel))


ALLOWED: list[tuple[str, bool]] = [
    ('cgroup_device_acl = ["/dev/null", "/dev/kvmfr0"]', True),
    ("cgroup_device_acl = [\n  '/dev/null',\n  '/dev/kvmfr0'\n]", True),
    ('#cgroup_device_acl = ["/dev/kvmfr0"]', False),
    ('cgroup_device_acl = ["/dev/kvmfr01"]', False),
    # Of a key that is set twice libvirt takes the first.
    ('cgroup_device_acl = ["/dev/kvmfr0"]\ncgroup_device_acl = ["/dev/null"]', True),
    ('cgroup_device_acl = ["/dev/null"]\ncgroup_device_acl = ["/dev/kvmfr0"]', False),
]


@pytest.mark.parametrize(("conf", "allowed"), ALLOWED)
def test_which_devices_qemu_may_open(conf: str, allowed: bool) -> None:
    kernel, domain = a_host(), Domain("vm", "u", shared=(KVMFR,))
    kernel.files["/etc/libvirt/qemu.conf"] = f"{conf}\n"
    assert bool(list(notes(domain, Options(), kernel))) is not allowed


JSON = '{"qom-type":"memory-backend-file","id":"a","mem-path":"/dev/kvmfr0","size":134217728}'


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("<shmem name='lg'><model type='ivshmem-plain'/><size unit='M'>64</size></shmem>", "64M"),
        ("<shmem name='lg'><model type='ivshmem-plain'/></shmem>", "4M"),
        ("<shmem name='lg'><size unit='MB'>2</size></shmem>", "2000000"),
        ("<shmem name='lg'><server path='/run/x'/><model type='ivshmem-doorbell'/></shmem>", ""),
    ],
)
def test_a_domain_s_shmem(inside: str, expected: str) -> None:
    found = parse(domain_xml(functions=(), more=f"<devices>{inside}</devices>").encode()).shared
    size = int(expected.replace("M", "")) << (20 * expected.endswith("M")) if expected else 0
    assert found == ((SharedMemory("/dev/shm/lg", size),) if expected else ())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            "memory-backend-file,id=lg,share=on,mem-path=/dev/shm/looking-glass,size=64M",
            replace(GLASS, arguments=True),
        ),
        (JSON.replace('"', "&quot;"), KVMFR),
        ("memory-backend-file,id=pc,mem-path=/dev/hugepages/x,size=1G", None),
        ("ivshmem-plain,memdev=lg", None),
    ],
)
def test_qemu_s_own_arguments(value: str, expected: SharedMemory | None) -> None:
    more = f"<qemu:commandline {NAMESPACE}><qemu:arg value='{value}'/></qemu:commandline>"
    found = parse(domain_xml(functions=(), more=more).encode()).shared
    assert found == ((expected,) if expected else ())


# The rest is with files of this machine, as root.


@pytest.fixture
def path() -> Iterator[str]:
    name = f"/dev/shm/vfio-hooks-test-{os.getpid()}"
    yield name
    for left in (name, name + ".other"):
        Path(left).unlink(missing_ok=True)


def live(path: str, engine: Engine, value: str) -> None:
    step = Step("shm", SharedFile(path, 8192), Override(value))
    engine.perform("prepare", uuid(1), "vm", lambda _: [step])


def test_a_file_is_made_and_removed(path: str, memory: Path) -> None:
    engine = Engine(WritableHost(), StateFolder(str(memory)), Lines())
    live(path, engine, "1000:993 0660, made for VMs")
    seen = os.stat(path)
    assert (seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode)) == (1000, 993, 0o660)
    assert seen.st_size == 8192
    assert engine.undo("release", uuid(1)) == []
    assert not os.path.lexists(path)


def test_a_file_that_somebody_made_in_its_place_stays(path: str, memory: Path) -> None:
    log = Lines()
    engine = Engine(WritableHost(), StateFolder(str(memory)), log)
    live(path, engine, "1000:993 0660, made for VMs")
    os.unlink(path)
    Path(path).write_text("theirs")
    os.chown(path, 1000, 993)
    os.chmod(path, 0o660)
    assert engine.undo("release", uuid(1)) == []
    assert Path(path).read_text() == "theirs"
    assert "left alone" in log.warnings[0]


def test_a_file_that_was_there_keeps_its_content(path: str, memory: Path) -> None:
    Path(path).write_text("what it had")
    os.chown(path, 1001, 1002)
    os.chmod(path, 0o604)
    engine = Engine(WritableHost(), StateFolder(str(memory)), Lines())
    live(path, engine, "1000:993 0660")
    assert engine.undo("release", uuid(1)) == []
    seen = os.stat(path)
    assert (seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode)) == (1001, 1002, 0o604)
    assert Path(path).read_text() == "what it had"


@pytest.mark.parametrize("trap", ["symbolic link", "several names", "neither a file"])
def test_traps_are_not_stepped_into(path: str, trap: str) -> None:
    bait = path + ".other"
    Path(bait).write_text("root's")
    os.chmod(bait, 0o600)
    if trap == "symbolic link":
        os.symlink(bait, path)
    elif trap == "several names":
        os.link(bait, path)
    else:
        os.mkfifo(path)
    host, knob = WritableHost(), SharedFile(path, 8192)
    for act in (
        lambda: knob.read(host),
        lambda: knob.write(host, "1000:993 0660, made for VMs"),
        lambda: knob.write(host, "1000:993 0660"),
        lambda: knob.write(host, "absent"),
    ):
        with pytest.raises(HookError):
            act()
    seen = os.stat(bait)
    assert (seen.st_uid, stat.S_IMODE(seen.st_mode)) == (0, 0o600)
    assert Path(bait).read_text() == "root's"
    assert os.path.lexists(path)


def test_a_half_made_file_is_cleared_away(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    SharedFile(path, 8192).write(WritableHost(), "absent")
    assert not os.path.lexists(path)


def test_a_mark_cannot_be_set_by_a_user(path: str) -> None:
    """Only root's attributes count."""
    Path(path).write_text("theirs")
    os.setxattr(path, "user.vfio-hooks", b"made")
    assert "made" not in SharedFile(path).read(WritableHost())
