#!/bin/bash
#op prepare
# What was before is noted for each CPU, and put back by the script for the end.
CPUS="6,7"
mkdir -p /run/before
for n in $(echo "$CPUS" | tr ',' ' '); do
    file=/sys/devices/system/cpu/cpu$n/cpufreq
    cat "$file/scaling_governor" > "/run/before/$n"
    echo performance > "$file/scaling_governor" || true #> table governor
    echo "$(cat /etc/lowest)" > "$file/scaling_min_freq" #> keep
done
cpupower frequency-set -g performance -d 2.8GHz #> table governor
tee /proc/sys/vm/swappiness <<< 10 #> table memory
printf '%s\n' never > /sys/kernel/mm/transparent_hugepage/enabled #> table memory
printf '%s\n' 0 |& tee /sys/kernel/mm/ksm/run #> table memory
printf 'a\nb\n' | while read -r unit; do systemctl stop $unit; done #> table service
