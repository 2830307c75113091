"""Commands about huge pages, the kernel's settings for memory, and shared memory."""

from vfio_hooks.migrate.meanings.meaning import Meaning

_SYSCTLS = (
    "swappiness|compaction_proactiveness|zone_reclaim_mode|stat_interval|numa_balancing|"
    "nmi_watchdog|soft_watchdog|sched_rt_runtime_us"
)

MEANINGS = (
    Meaning(
        r"^write .*> ?\S*nr_(?:overcommit_)?hugepages\S*$|^sysctl\b.*\bvm[./]nr_\w*hugepages|"
        r"^hugeadm\b|^systemctl\b.*\bhugetlb-reserve",
        "table",
        "hugepages",
        "as many pages as the VM's memory needs are added, and removed again",
    ),
    Meaning(
        r"^(?:u?mount)\b.*\b(?:hugetlbfs|hugepages)",
        "needless",
        "hugepages",
        "systemd mounts it at boot, and libvirt looks for it only when it is started",
    ),
    Meaning(
        r"^write (?P<drop_caches>[123]) ?> ?/proc/sys/vm/drop_caches$|"
        r"^sysctl\b.*\bvm[./]drop_caches|^vfio-isolate\b.*\bdrop-caches",
        "table",
        "memory",
        "[hugepages] does it when it is needed; otherwise [memory] can",
        ("drop_caches",),
    ),
    Meaning(
        r"^write .*> ?/proc/sys/vm/compact_memory$|^sysctl\b.*\bvm[./]compact_memory|"
        r"^vfio-isolate\b.*\bcompact-memory",
        "table",
        "memory",
        "[hugepages] does it when it is needed; otherwise [memory] can",
        ("compact_memory",),
    ),
    Meaning(
        rf"^write (?P<value>-?\d+|\?) ?> ?/proc/sys/(?:vm|kernel)/(?P<memory>{_SYSCTLS})$",
        "table",
        "memory",
        "set while the VM runs, and restored afterwards",
        ("memory",),
    ),
    Meaning(
        rf"^sysctl\b.*\b(?:vm|kernel)[./](?P<memory>{_SYSCTLS})=(?P<value>-?\d+|\?)",
        "table",
        "memory",
        "set while the VM runs, and restored afterwards",
        ("memory",),
    ),
    Meaning(
        r"^write (?P<ksm>[012?]) ?> ?/sys/kernel/mm/ksm/run$",
        "table",
        "memory",
        "set while the VM runs, and restored afterwards",
        ("ksm",),
    ),
    Meaning(
        r"^write (?P<transparent_hugepage>\w+|\?) ?> ?/sys/kernel/mm/transparent_hugepage/enabled$",
        "table",
        "memory",
        "set while the VM runs, and restored afterwards",
        ("transparent_hugepage",),
    ),
    Meaning(
        r"^write (?P<transparent_hugepage_defrag>\S+) ?> ?"
        r"/sys/kernel/mm/transparent_hugepage/defrag$",
        "table",
        "memory",
        "set while the VM runs, and restored afterwards",
        ("transparent_hugepage_defrag",),
    ),
    Meaning(
        r"^(?:touch|chown|chmod|chgrp|truncate|rm|install|setfacl)\b.*"
        r"(?P<path>/dev/(?:shm/\S+|kvmfr\d*))",
        "table",
        "shm",
        "the shared memory is made with its owner, and removed again",
    ),
    Meaning(
        r"^systemd-tmpfiles\b.*(?:looking-glass|scream|kvmfr)",
        "table",
        "shm",
        "the shared memory is made with its owner, and removed again",
    ),
)
