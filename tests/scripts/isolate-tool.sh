#!/bin/bash
#op prepare
UNDOFILE=/var/run/libvirt/qemu/vfio-isolate-undo.bin
vfio-isolate -u $UNDOFILE drop-caches #> table memory
vfio-isolate -u $UNDOFILE cpuset-modify --cpus C0-3 /system.slice #> table cpus
vfio-isolate -u $UNDOFILE cpu-governor performance C4-7 #> table governor
vfio-isolate -u $UNDOFILE irq-affinity mask C4-7 #> table irqs
taskset -pc 0-3 2 #> table cpus
