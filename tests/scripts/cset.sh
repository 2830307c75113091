#!/bin/bash
#op prepare
TOTAL_CORES='0-11'
HOST_CORES='0-3'
cset set -c $TOTAL_CORES -s machine.slice #> table cpus
cset shield --kthread on --cpu 4-11 #> table cpus
echo 0 > /proc/sys/kernel/numa_balancing #> table memory
