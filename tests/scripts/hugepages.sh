#!/bin/bash
#op prepare
## Memory of the VM in MiB
MEMORY=16384
HUGEPAGES="$(($MEMORY/$(($(grep Hugepagesize /proc/meminfo | awk '{print $2}')/1024))))"
echo "Allocating hugepages..."
echo $HUGEPAGES > /proc/sys/vm/nr_hugepages #> table hugepages
ALLOC_PAGES=$(cat /proc/sys/vm/nr_hugepages)
TRIES=0
while (( ALLOC_PAGES != HUGEPAGES && TRIES < 1000 )); do
    echo 1 > /proc/sys/vm/compact_memory #> table memory
done
