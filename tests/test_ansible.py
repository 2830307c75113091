"""The role for Ansible, played by ansible-core on a copy of this machine: libvirt's own driver for
tests has the VM, and the package is the one that packaging/deb builds."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.sealed import can_seal
from tests.test_channels import COPY
from tests.test_package import build
from tests.tools import installed

ROOT = Path(__file__).resolve().parents[1]
ANSIBLE = ROOT / "packaging/ansible"
TOOLS = ("ansible-core==2.19.14", "ansible-lint==26.10.1")
GOOD = '[[write]]\npath = "/proc/sys/vm/swappiness"\nvalue = "10"\n'
HELD = (
    '{"record":"begin","event":"prepare","vm":"test","number":1,"journal":1}\n'
    '{"record":"claim","number":1,"event":"prepare","time":1.0,"step":{"plugin":"write",'
    '"knob":{"kind":"file","path":"/sys/a"},"share":{"kind":"override","value":"1"},'
    '"until":"release"},"base":"0"}\n{"record":"end"}\n'
)
JOURNAL = "run/vfio-hooks/6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c11.journal"
PLAY = """\
- hosts: all
  gather_facts: true
  roles:
    - role: vfio_hooks
      vars:
        vfio_hooks_package: /mnt/vfio-hooks.deb
        vfio_hooks_connect: test:///default
        vfio_hooks_accepted: "{{ lookup('file', '/mnt/accepted').split() }}"
        vfio_hooks_vms:
          test:
            toml: "{{ lookup('file', '/mnt/vm.toml', rstrip=false) }}"
  tasks:
    - ansible.builtin.debug:
        msg: "held {{ vfio_hooks_host.held }} groups {{ vfio_hooks_host.groups is defined }}"
"""

pytestmark = [
    pytest.mark.real_processes,
    pytest.mark.matrix_only,
    pytest.mark.skipif(not can_seal(), reason="needs root and mount namespaces"),
]


@pytest.fixture(scope="module")
def tools() -> Path:
    """The folder with Ansible's programs."""
    return installed(*TOOLS)


def test_ansible_lint_has_nothing_to_say(tools: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(tools / "ansible-lint"), "--offline", "--strict", "--nocolor"],
        cwd=shutil.copytree(ANSIBLE, tmp_path / "ansible"),
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Fleet:
    """A host on which a script plays the role, several times."""

    def __init__(self, tools: Path, folder: Path) -> None:
        self.tools = tools
        self.folder = folder
        packages = folder / "packages"
        packages.mkdir()
        shutil.copy(build(packages), packages / "vfio-hooks.deb")
        shutil.copytree(ANSIBLE, packages / "ansible")
        (packages / "play.yml").write_text(PLAY)
        (packages / "good.toml").write_text(GOOD)
        (packages / "bad.toml").write_text("[wriet]\n")
        (packages / "held").write_text(HELD)
        (packages / "accepted").write_text("iommu-off no-iommu\n")

    def run(self, *lines: str) -> list[str]:
        """What a script prints that may `play WORDS`, with vm.toml as the VM's file."""
        script = f"""
        mkdir -p run/vfio-hooks tmp etc/libvirt/hooks
        ln -sf good.toml mnt/vm.toml
        play() {{
            chroot . env HOME=/tmp ANSIBLE_ROLES_PATH=/mnt/ansible/roles ANSIBLE_NOCOLOR=1 \\
                LC_ALL=C.UTF-8 {self.tools}/ansible-playbook --inventory host, \\
                --connection local --extra-vars ansible_python_interpreter=/usr/bin/python3 \\
                "$@" /mnt/play.yml >log 2>&1 </dev/null || true
            cat log >&2
            grep -oE 'changed=[0-9]+|failed=[0-9]+' log | tail -n 2 | xargs
        }}
        """
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", COPY, "sh", str(self.folder), "sh", "-ec"]
            + [script + "\n".join(lines)],
            capture_output=True,
            text=True,
            timeout=600,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        )
        said = re.findall('.*(?:fail_msg|"msg"|FAILED|is left).*', done.stderr)
        assert done.returncode == 0, (done.stdout, said)
        (self.folder / "log").write_text(done.stderr)
        return [" ".join(line.split()) for line in done.stdout.splitlines()]


def test_a_host_s_life(tools: Path, tmp_path: Path) -> None:
    fleet = Fleet(tools, tmp_path)
    file = "etc/libvirt/hooks/qemu.d/test/vm.toml"
    told = fleet.run(
        "play --check",
        f"ls {file} usr/bin/vfio-hooks 2>/dev/null || true",
        "play",
        f"cat {file}",
        "play",
        "play --check",
        # It was copied, and then not installed: a connection that broke off.
        "chroot . dpkg --force-depends --purge vfio-hooks >/dev/null 2>&1",
        "play",
        "test -x usr/bin/vfio-hooks && echo installed",
        # A broken file stops the play before anything is put in place.
        "ln -sf bad.toml mnt/vm.toml",
        "play",
        f"cmp {file} mnt/good.toml && echo as before",
        "play --check",
        # A host with a running VM is left alone, and reported.
        f"cp mnt/held {JOURNAL}",
        "play",
        "grep -o 'host is left alone: it is changed for test' log",
        f"cmp {file} mnt/good.toml && echo as before",
    )
    assert re.fullmatch(r"changed=\d+ failed=0", told[0])
    assert re.fullmatch(r"changed=[3-9] failed=0", told[1])
    assert told[2:5] == GOOD.splitlines()
    assert told[5:] == [
        "changed=0 failed=0",
        "changed=0 failed=0",
        "changed=1 failed=0",
        "installed",
        "changed=0 failed=1",
        "as before",
        "changed=0 failed=1",
        "changed=0 failed=0",
        "host is left alone: it is changed for test",
        "as before",
    ], fleet.folder.joinpath("log").read_text()[-8000:]
