#!/bin/bash
#op prepare
# What is chosen when the script runs is no table: neither value is right on every start.
if on_ac_power; then
    echo performance > /sys/devices/system/cpu/cpu4/cpufreq/scaling_governor #> keep
    systemctl stop tlp #> table service
else
    echo powersave > /sys/devices/system/cpu/cpu4/cpufreq/scaling_governor #> keep
fi
LEVEL=10
if [ "$(cat /sys/class/power_supply/AC/online)" = 1 ]; then
    LEVEL=1
    sysctl kernel.nmi_watchdog=0 #> table memory
fi
sysctl -w vm.swappiness=$LEVEL #> keep
lspci | grep -q NVIDIA && helper=for-nvidia || helper=for-amd
systemctl start $helper #> keep
case $(uname -n) in
    desk) systemctl start samba; echo 5 > /sys/kernel/foo ;; #> table service + keep
    lap*) systemctl start samba; echo 6 > /sys/kernel/foo ;; #> table service + keep
    *) systemctl start samba ;; #> table service
esac
pages() { echo "$1" > /sys/kernel/mm/transparent_hugepage/enabled; } #> keep
if grep -q 32G /etc/size; then
    size=never
elif grep -q 16G /etc/size; then
    size=madvise
else
    size=always
fi
pages $size
# Each of these has one value only.
if grep -q quiet /etc/size; then
    stat=120
fi
[ -z "$stat" ] || sysctl vm.stat_interval=$stat #> table memory
if grep -q loud /etc/size; then
    ksm=0
    echo $ksm > /sys/kernel/mm/ksm/run #> table memory
else
    ksm=1
fi
# Of these, those are stopped that run.
if grep -q big /etc/size; then systemctl stop ollama; else systemctl stop plex; fi #> table service
# The value before may be one that is only known then.
zone=$(cat /etc/zone)
[ -n "$zone" ] || zone=0
sysctl vm.zone_reclaim_mode=$zone #> keep
