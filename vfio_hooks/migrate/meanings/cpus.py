"""Commands about the CPUs that programs and interrupts use."""

from vfio_hooks.migrate.meanings.meaning import CPU_FILE, Meaning

MEANINGS = (
    Meaning(
        r"^systemctl\b.*set-property\b.*\binit\.slice\b",
        "mistake",
        "cpus",
        "there is no init.slice: PID 1 is in init.scope",
    ),
    Meaning(
        r"^systemctl\b.*set-property\b.*AllowedCPUs",
        "table",
        "cpus",
        "host programs are kept off the VM's CPUs",
    ),
    Meaning(
        r"^systemctl\b.* revert\b.*\.(?:slice|scope)\b",
        "needless",
        "cpus",
        "undone automatically when the VM ends",
    ),
    Meaning(
        r"^(?:cset|vfio-isolate\b.*\b(?:cpuset-\w+|move-tasks))",
        "table",
        "cpus",
        "host programs are kept off the VM's CPUs",
    ),
    Meaning(
        r"^write .*> ?\S*(?:/sys/fs/cgroup|/dev/cpuset|/cpuset)\S*|"
        r"^(?:mkdir|rmdir)\b.* /sys/fs/cgroup/|^cg(?:create|set|exec|delete|classify)\b",
        "table",
        "cpus",
        "host programs are kept off the VM's CPUs",
    ),
    Meaning(
        r"^write .*> ?\S*/(?:workqueue\S*/cpumask|watchdog_cpumask)$",
        "table",
        "cpus",
        "the kernel's own work is kept off the VM's CPUs",
    ),
    Meaning(
        r"^taskset\b",
        "table",
        "cpus",
        "programs and kernel threads are kept off the VM's CPUs; the VM's own are pinned by "
        "<cputune> in its XML",
    ),
    Meaning(
        r"^(?:chrt|renice|nice|ionice)\b",
        "needless",
        "",
        "<vcpusched> and <emulatorsched> in the XML's <cputune>: libvirt sets them itself",
    ),
    Meaning(
        r"^write .*> ?/proc/irq/\S*(?:smp_affinity\S*)$",
        "table",
        "irqs",
        "the host's interrupts are kept off the VM's CPUs, and the VM's own go to them",
    ),
    Meaning(
        r"^(?:systemctl|service|rc-service)\b.*\birqbalance\b|^irqbalance\b|"
        r"^vfio-isolate\b.*\birq-affinity|^write .*> ?\S*/irqbalance$",
        "table",
        "irqs",
        "irqbalance is told to keep off the VM's CPUs, and keeps running",
    ),
    Meaning(
        rf"^write [01] ?> ?{CPU_FILE}/online$",
        "keep",
        "",
        "a CPU is switched off or on",
    ),
)
