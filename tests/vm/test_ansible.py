"""Ansible's role over ssh, played on two hosts at once."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.test_ansible import ANSIBLE, tools
from tests.test_package import build
from tests.vm import saved
from tests.vm.direct import HOOKS
from tests.vm.domains import Domain
from tests.vm.guest import Guest

__all__ = ["tools"]
pytestmark = [pytest.mark.vm, pytest.mark.matrix_only]

NAME = "fleet"
FILE = f"{HOOKS}/qemu.d/{NAME}/vm.toml"
SWAPPINESS = "/proc/sys/vm/swappiness"
TOML = '[[write]]\npath = "/proc/sys/vm/swappiness"\nvalue = {}\n'
PLAY = f"""\
- hosts: all
  gather_facts: true
  gather_subset: [min]
  roles:
    - role: vfio_hooks
      vars:
        vfio_hooks_package: PACKAGE
        vfio_hooks_vms:
          {NAME}:
            toml: "{{{{ lookup('file', 'vm.toml', rstrip=false) }}}}"
  tasks:
    - ansible.builtin.debug:
        msg: "{{{{ inventory_hostname }}}} holds {{{{ vfio_hooks_host.held }}}}"
"""
VARIABLES = f"""\
vfio_hooks_package: PACKAGE
vfio_hooks_vms:
  {NAME}:
    toml: "{{{{ lookup('file', inventory_dir + '/vm.toml', rstrip=false) }}}}"
"""


class Fleet:
    """Two hosts, and a folder to play the role from."""

    def __init__(self, tools: Path, folder: Path, hosts: dict[str, Guest]) -> None:
        self._tools = tools
        self._folder = folder
        self.hosts = hosts
        self.log = ""
        lines = []
        for name, guest in hosts.items():
            ssh = guest.machine.ssh
            common = (
                f"-F none -o HostKeyAlias={ssh.hostname} -o GlobalKnownHostsFile=/dev/null "
                f"-o UserKnownHostsFile={ssh.known_hosts}"
            )
            lines.append(
                f"{name} ansible_host=127.0.0.1 ansible_port={ssh.port} ansible_user=root "
                f"ansible_ssh_private_key_file={ssh.identity} ansible_ssh_common_args='{common}'"
            )
        (folder / "hosts").write_text("\n".join(lines) + "\n")
        package = str(build(folder))
        (folder / "play.yml").write_text(PLAY.replace("PACKAGE", package))
        (folder / "vms.yml").write_text(VARIABLES.replace("PACKAGE", package))

    def play(
        self, *words: str, toml: str | None = None, book: str = "play.yml"
    ) -> dict[str, tuple[int, int]]:
        """Play the role; how many tasks changed a host and failed, by its name."""
        if toml is not None:
            (self._folder / "vm.toml").write_text(toml)
        done = subprocess.run(
            [str(self._tools / "ansible-playbook"), "--inventory", "hosts", *words, book],
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=900,
            env={
                "PATH": f"{self._tools}:{os.environ['PATH']}",
                "HOME": str(self._folder),
                "LC_ALL": "C.UTF-8",
                "ANSIBLE_ROLES_PATH": str(ANSIBLE / "roles"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_TIMEOUT": "120",
                # An emulated host takes long for each connection.
                "ANSIBLE_PIPELINING": "1",
                # A socket's path may have no more than 107 bytes.
                "ANSIBLE_SSH_CONTROL_PATH_DIR": "/tmp/.ansible-vfio-hooks",
            },
        )
        self.log = done.stdout + done.stderr
        print(self.log, flush=True)
        recap = r"^(\w+) +: .*changed=(\d+) +unreachable=0 +failed=(\d+)"
        return {
            name: (int(changed), int(failed))
            for name, changed, failed in re.findall(recap, self.log, re.MULTILINE)
        }

    def files(self) -> dict[str, str]:
        """Each host's vm.toml."""
        return {name: guest.read(FILE) for name, guest in self.hosts.items()}


@pytest.fixture
def fleet(tools: Path, tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        hosts = {}
        for name in ("one", "two"):
            running = saved.resume("trixie", f"fleet-{os.getpid()}-{name}", installed=False)
            stack.callback(running.stop)
            hosts[name] = Guest(running)
            hosts[name].define(Domain(NAME))
        yield Fleet(tools, tmp_path, hosts)


def both(*told: int) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(("one", "two"), told)


def test_two_hosts_at_once(fleet: Fleet) -> None:
    first = fleet.play(toml=TOML.format(10))
    assert all(changed >= 3 and not failed for changed, failed in first.values()), fleet.log
    assert set(first) == {"one", "two"}
    assert set(fleet.files().values()) == {TOML.format(10)}
    assert fleet.play() == both(0, 0), fleet.log

    # A broken file stops both before anything is put in place.
    assert fleet.play(toml="[wriet]\n") == both(0, 1), fleet.log
    assert set(fleet.files().values()) == {TOML.format(10)}

    # A host with a VM that runs is left alone, and told; the other one has the new file.
    two = fleet.hosts["two"]
    usual = two.read(SWAPPINESS)
    two.start(NAME)
    assert two.read(SWAPPINESS) == "10\n"
    told = fleet.play(toml=TOML.format(20))
    assert (told["one"][1], told["two"]) == (0, (0, 0)), fleet.log
    assert told["one"][0] == 1
    assert f"two is left alone: it is changed for {NAME}" in fleet.log
    assert f"two holds ['{NAME}']" in fleet.log
    assert fleet.files() == {"one": TOML.format(20), "two": TOML.format(10)}
    assert two.read(SWAPPINESS) == "10\n"

    # One host after the other: the one with the VM is not touched, and told at the end.
    words, book = ("-e", "@vms.yml"), str(ANSIBLE / "playbooks/rolling.yml")
    told = fleet.play(*words, toml=TOML.format(30), book=book)
    assert told == {"one": (1, 0), "two": (0, 0)}, fleet.log
    assert f"two has to be done again when {NAME} has ended" in fleet.log
    assert fleet.files() == {"one": TOML.format(30), "two": TOML.format(10)}
    two.destroy(NAME)
    assert two.read(SWAPPINESS) == usual
    # Then it is done, too.
    told = fleet.play(*words, "--limit", "two", book=book)
    assert told == {"two": (1, 0)}, fleet.log
    assert set(fleet.files().values()) == {TOML.format(30)}
    # The first that fails ends it, before the next one is begun.
    told = fleet.play(*words, toml="[wriet]\n", book=book)
    assert told == {"one": (0, 1)}, fleet.log
    assert set(fleet.files().values()) == {TOML.format(30)}
