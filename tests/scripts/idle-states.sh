#!/bin/sh
#op started
cpupower -c 4-7 idle-set -D 0 #> table governor
x86_energy_perf_policy --cpu 4-7 performance #> table governor
powerprofilesctl set balanced #> keep governor
mkdir /sys/fs/cgroup/cpuset/host #> table cpus
cgset -r cpuset.cpus=0-3 host #> table cpus
