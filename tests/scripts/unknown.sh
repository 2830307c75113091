#!/bin/bash
#op prepare
# What is known only at run time is no table, and no "all".
CPUS="2,3"
for cpu in ${CPUS//,/ }; do
    echo performance > /sys/devices/system/cpu/cpu$cpu/cpufreq/scaling_governor #> table governor
done
for cpu in $(seq 4 5); do
    echo performance > /sys/devices/system/cpu/cpu$cpu/cpufreq/scaling_governor #> table governor
done
for cpu in $(cat /etc/cpus); do
    echo performance > /sys/devices/system/cpu/cpu$cpu/cpufreq/scaling_governor #> table governor
done
GUID=$(cat /etc/guid)
echo "$GUID" > /sys/bus/pci/devices/0000:00:02.0/mdev_supported_types/i915-GVTg_V5_4/create #> keep
systemctl stop "$(cat /etc/unit)" #> keep
echo "$(cat /etc/port)" > /sys/bus/usb/drivers/usb/unbind #> keep
touch /dev/shm/$(cat /etc/name) #> keep
powerprofilesctl set "$(cat /etc/profile)" #> keep governor
sysctl -q -w vm.stat_interval=120 vm.swappiness=10 #> table memory
