#!/bin/bash
#op prepare
cpupower frequency-set -g performance #> table governor
for file in /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor; do
    echo performance > $file #> table governor
done
echo performance | sudo tee /sys/devices/system/cpu/cpu{4..7}/cpufreq/scaling_governor > /dev/null #> table governor
echo 3600000 > /sys/devices/system/cpu/cpu4/cpufreq/scaling_min_freq #> table governor
for cpu in 4 5 6 7; do
    echo n/a > /sys/devices/system/cpu/cpu$cpu/power/pm_qos_resume_latency_us #> table governor
done
echo 1 > /sys/devices/system/cpu/intel_pstate/no_turbo #> table governor
