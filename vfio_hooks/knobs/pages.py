"""Hugepages of one size on one NUMA node."""

from __future__ import annotations

from vfio_hooks.errors import Gone, HookError
from vfio_hooks.host.cpu import NODES
from vfio_hooks.host.memory import amount, node_of, pool_at, use
from vfio_hooks.knobs.base import Knob
from vfio_hooks.knobs.file import write_file
from vfio_hooks.record import record
from vfio_hooks.wait import until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host, WritableHost


@record
class Pages(Knob):
    """A nr_hugepages file, usually of one node; the value is a number.

    The kernel accepts any number and provides as many pages as it can find, so a write that is cut
    off may leave any number in between. The search for more goes on for up to `seconds`. It is no
    failure if a program still uses pages that are removed: the kernel frees them when it ends.
    https://docs.kernel.org/admin-guide/mm/hugetlbpage.html
    """

    path: str
    seconds: float = 0
    kind = "pages"
    atomic = False

    @property
    def key(self) -> str:
        return self.path

    def read(self, host: Host) -> str:
        pool = pool_at(host, self.path)
        if pool is None:
            raise Gone(f"{self.path}: no such file on this host")
        return str(pool.count)

    def foresee(self, host: Host, value: str) -> dict[str, str | None]:
        fewer = int(self.read(host)) - int(value)
        # No program can use them then, so they are all free.
        files = (self.path, f"{self.path.rpartition('/')[0]}/free_hugepages")
        texts = {file: host.maybe(file) for file in files}
        return {file: str(max(0, int(text) - fewer)) for file, text in texts.items() if text}

    def _write(self, host: WritableHost, value: str) -> None:
        wanted, before = int(value), int(self.read(host))
        had = self._ask(host, wanted)

        def had_after_another_look() -> bool:
            nonlocal had
            self._make_room(host)
            last, had = had, self._ask(host, wanted)
            if had != last:
                host.tell(f"{self.path}: {had} of {wanted} pages so far")
            return had >= wanted

        if had < wanted:
            host.tell(
                f"{self.path}: {had} of {wanted} pages were available at once: looking for more"
            )
        if had < wanted and not until(had_after_another_look, self.seconds):
            raise self._too_few(host, wanted - before, had - before)
        if had > wanted:
            raise HookError(
                f"{self.path}: {wanted} was asked for, but the kernel shows {had}",
                "this kernel counts pages that programs use beyond the pool: end these programs",
            )

    def _ask(self, host: WritableHost, wanted: int) -> int:
        write_file(host, self.path, str(wanted))
        had = int(self.read(host))
        if had > wanted:
            # Linux 6.1 adds the surplus pages of other nodes to the number asked for on a node.
            write_file(host, self.path, str(max(0, wanted - (had - wanted))))
            had = int(self.read(host))
        return had

    def _make_room(self, host: WritableHost) -> None:
        """Drop caches and compact memory, so that larger blocks become free."""
        compact = f"{NODES}/node{node_of(self.path)}/compact"
        if not host.exists(compact):
            compact = "/proc/sys/vm/compact_memory"
        for path, text in (("/proc/sys/vm/drop_caches", "3"), (compact, "1")):
            try:
                host.write(path, text)
            except OSError:
                # This only helps; not every kernel has it.
                continue

    def _too_few(self, host: Host, wanted: int, had: int) -> HookError:
        pool = pool_at(host, self.path)
        where, size = (pool.where, amount(pool.size)) if pool else (self.path, "?")
        return HookError(
            f"{where}: only {had} of {wanted} hugepages of {size} could be made within "
            f"{self.seconds:g} s ({use(host, node_of(self.path))})",
            "free memory there, let the VM use another node, or reserve the pages at boot "
            "(hugepagesz= and hugepages= on the kernel's command line)",
        )
