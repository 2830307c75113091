"""What a test says to a running emulated host."""

from __future__ import annotations

import shlex
from base64 import b64encode
from dataclasses import dataclass, field
from functools import cached_property

from tests.vm.domains import Domain
from tests.vm.machine import Machine
from tests.vm.observer import Observer
from tests.vm.process import VmError, last_line
from tests.vm.ssh import Result
from vfio_hooks.rehearse.observed import State
from vfio_hooks.wait import until

CHECKOUT = "/root/checkout"
# As a user would, out of a copy of his own; where this is installed, out of that.
INSTALLING = (
    f"rm -rf {CHECKOUT} && mkdir {CHECKOUT} && tar --create --directory /src --exclude-vcs"
    " --exclude='.*_cache' --exclude=__pycache__ . | tar --extract --no-same-owner"
    f" --directory {CHECKOUT} && cd {CHECKOUT} && {{ [ ! -d installer ] || cd installer; }}"
    " && ./install.sh"
)
# irqbalance moves masks every ten seconds, so no two snapshots would be the same. With an
# hour between its moves it still runs, listens on its socket and obeys its configuration.
CALM = """\
set -eu
drop_in=/run/systemd/system/irqbalance.service.d
mkdir -p $drop_in
command=$(systemctl show --property=ExecStart --value irqbalance.service)
command=${command#*argv\\[\\]=}
command=${command%% ;*}
case $command in
*--interval=*) ;;
*) printf '[Service]\\nExecStart=\\nExecStart=%s --interval=3600\\n' "$command" \\
    > $drop_in/calm.conf ;;
esac
systemctl daemon-reload
systemctl restart irqbalance.service
# Else the kernel drops what AppArmor refuses where it has said 10 lines within 5 s, as a start
# of libvirt's makes it do.
sysctl --quiet kernel.printk_ratelimit=0
all=$(cat /proc/irq/default_smp_affinity)
# Interrupts that the kernel manages itself refuse; they never were moved either.
for mask in /proc/irq/[0-9]*/smp_affinity; do
    echo "$all" 2> /dev/null > "$mask" || true
done 2> /dev/null
"""


@dataclass(frozen=True)
class Guest:
    """A running emulated host of one release; `unmanaged` are the domains with managed='no' that
    its libvirtd has had."""

    machine: Machine
    unmanaged: set[str] = field(default_factory=set, compare=False)

    @property
    def release(self) -> str:
        """The Debian release, as in "trixie"."""
        return self.machine.suite

    def run(
        self,
        command: str,
        *,
        check: bool = True,
        timeout: float = 300,
        input: str | None = None,
        user: str = "root",
    ) -> Result:
        """Run a shell command line; a failing one is an error unless `check` is off."""
        result = self.machine.ssh.run(command, user=user, input=input, timeout=timeout)
        if result.returncode == 255:  # ssh's own
            self._check_alive()
        if check and result.returncode != 0:
            told = (result.stderr + result.stdout).strip() or "it printed nothing"
            raise VmError(f"{self.release}: exit {result.returncode} from {command!r}: {told}")
        return result

    def _check_alive(self) -> None:
        # One that fails an assertion takes a while to end, and the connection is gone before.
        if until(lambda: not self.machine.alive(), 10):
            raise VmError(
                f"{self.release}: QEMU has ended: {self.machine.why_dead()}; "
                f"the guest said last: {last_line(self.machine.console())}"
            )

    def put(self, path: str, text: str, mode: str = "0644") -> None:
        """Write a file; its folders are made."""
        target = shlex.quote(path)
        script = f'mkdir -p "$(dirname {target})" && cat > {target} && chmod {mode} {target}'
        self.run(script, input=text)

    def put_bytes(self, path: str, data: bytes) -> None:
        """Write a file that is no text; its folder is there."""
        self.run(f"base64 -d > {shlex.quote(path)}", input=b64encode(data).decode())

    def read(self, path: str) -> str:
        """A file's text."""
        return self.run(f"cat {shlex.quote(path)}").stdout

    def install(self, *arguments: str) -> Result:
        """Install the checkout."""
        return self.run(f"{INSTALLING} {shlex.join(arguments)}", timeout=600)

    def virsh(self, *words: str, check: bool = True, timeout: float = 180) -> Result:
        """Run one virsh command."""
        return self.run(f"virsh --quiet {shlex.join(words)}", check=check, timeout=timeout)

    def define(self, domain: Domain | str) -> None:
        """Make a domain known to libvirt."""
        xml = domain if isinstance(domain, str) else domain.xml()
        if "managed='no'" in xml:
            self.unmanaged.add(xml)
        self.run("virsh --quiet define /dev/stdin", input=xml)

    def start(self, name: str, *, check: bool = True) -> Result:
        """Start a domain."""
        return self.virsh("start", name, check=check)

    def destroy(self, name: str, *, check: bool = True) -> Result:
        """Stop a domain at once; `release` hooks have run when it returns."""
        return self.virsh("destroy", name, check=check)

    def undefine(self, name: str, *, check: bool = True) -> Result:
        """Make libvirt forget a domain."""
        return self.virsh("undefine", name, check=check)

    def remove(self, name: str) -> None:
        """Destroy and undefine a domain, whatever state it is in."""
        quoted = shlex.quote(name)
        self.run(f"virsh -q destroy {quoted}; virsh -q undefine {quoted}", check=False)

    def forget_unmanaged(self) -> None:
        """Start libvirtd anew where it has had a VM with managed='no'.

        A function that such a VM once had libvirt 11.3 leaves with vfio-pci ever after, also at
        the end of a VM with managed='yes'. It keeps that in memory alone.
        """
        if self.unmanaged:
            self.run("systemctl restart libvirtd && virsh list")
            self.unmanaged.clear()

    def start_unit(self, name: str, command: str, options: str = "") -> None:
        """Start a command as a service, once the last one of that name is gone.

        Its stop returns before systemd has forgotten it.
        """
        self.wait(f"[ $(systemctl show --property=LoadState --value {name}) = not-found ]")
        self.run(f"systemd-run --quiet --collect --unit={name} {options} {command}")

    def wait(self, condition: str, deadline: float = 180) -> None:
        """Wait until a shell command succeeds in the guest (s); it is tried once more after the
        deadline, as the machine below may have stood still."""
        script = (
            f"late=; end=$((SECONDS + {deadline:.0f})); until {condition}; do"
            ' [ -z "$late" ] || exit 1; [ "$SECONDS" -lt "$end" ] || late=1; sleep 0.2; done'
        )
        result = self.run(f"bash -c {shlex.quote(script)}", check=False, timeout=deadline + 60)
        if result.returncode != 0:
            raise VmError(
                f"{self.release}: not within {deadline:.0f} s: {condition}: "
                f"{last_line(result.stderr)}"
            )

    def log(self) -> str:
        """What hooks have logged since the boot, with what is still on its way."""
        return self.run("journalctl --sync; journalctl -t vfio-hooks --boot -o cat").stdout

    @cached_property
    def _observer(self) -> Observer:
        return Observer(self.machine.ssh)

    def observe(self, expected: State | None = None) -> tuple[State, tuple[str, ...]]:
        """The state of all that hooks may touch, and AppArmor's refusals since the boot.

        It has settled, or is the one expected.
        """
        try:
            return self._observer.look(expected)
        except OSError:
            self._check_alive()
            raise

    def snapshot(self) -> State:
        """The state of all that hooks may touch, after the dust of hotplug has settled."""
        return self.observe()[0]

    def denials(self) -> tuple[str, ...]:
        """AppArmor's refusals since the boot, oldest first."""
        return self.observe()[1]

    def calm(self) -> None:
        """Make interrupt masks hold still, and the kernel tell all; see CALM."""
        self.run(CALM)
