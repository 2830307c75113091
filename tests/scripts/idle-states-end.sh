#!/bin/sh
#op release
cpupower idle-set --enable-all #> needless governor
rmdir /sys/fs/cgroup/cpuset/host #> needless cpus
