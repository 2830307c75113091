#!/bin/bash
#op release
CPUS=(0 1 2 3)
for cpu in "${CPUS[@]}"; do
    echo ondemand > "/sys/devices/system/cpu/cpu${cpu}/cpufreq/scaling_governor" #> mistake governor
done
echo 0 | tee /sys/devices/system/cpu/cpu*/power/pm_qos_resume_latency_us #> needless governor
cpupower frequency-set --governor powersave #> mistake governor
