#!/bin/bash
#op prepare
PAGES=8192
sync
echo 3 > /proc/sys/vm/drop_caches #> table memory
echo 1 > /proc/sys/vm/compact_memory #> table memory
sysctl -w vm.nr_hugepages=$PAGES #> table hugepages
if [ "$(cat /proc/sys/vm/nr_hugepages)" -lt "$PAGES" ]; then
    echo 0 > /proc/sys/vm/nr_hugepages #> table hugepages
    exit 1
fi
mount -t hugetlbfs hugetlbfs /dev/hugepages #> needless hugepages
