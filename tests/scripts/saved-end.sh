#!/bin/bash
#op release
for n in 6 7; do
    file=/sys/devices/system/cpu/cpu$n/cpufreq
    if [ -f "/run/before/$n" ]; then
        cat "/run/before/$n" > "$file/scaling_governor" #> needless governor
        cat < /run/before/lowest > "$file/scaling_min_freq" #> needless governor
        rm -f "/run/before/$n"
    fi
done
cat /run/before/swappiness > /proc/sys/vm/swappiness #> needless memory
cat /run/before/prefer > /sys/devices/system/cpu/cpu0/cpufreq/energy_performance_preference #> needless governor
rmdir /run/before
