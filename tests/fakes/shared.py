"""Files with owners, in a kernel in memory."""

import errno

from vfio_hooks.host.shared_memory import OURS_ALONE, Access, Shared
from vfio_hooks.record import replace

PATH = "/dev/shm/looking-glass"


class Memory:
    """The part of a kernel in memory that is its /dev/shm."""

    shared: dict[str, Shared]

    def look(self, name: str) -> Shared | None:
        return self.shared.get(name)

    def make(self, name: str, size: int) -> None:
        if name in self.shared:
            raise FileExistsError(errno.EEXIST, "File exists", name)
        self.shared[name] = Shared(OURS_ALONE, size, is_made=True)

    def give(self, name: str, access: Access) -> None:
        self.shared[name] = replace(self.shared[name], access=access)
