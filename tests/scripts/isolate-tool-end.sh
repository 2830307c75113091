#!/bin/bash
#op release
vfio-isolate restore /var/run/libvirt/qemu/vfio-isolate-undo.bin #> needless
taskset -pc 0-7 2 #> needless cpus
