#!/bin/bash
#op prepare
# Functions with arguments, and their own after another function was called.
governor() {
    for file in /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor; do
        echo "$1" > "$file" #> table governor
    done
}
unbind() {
    governor performance
    for dev in "$@"; do
        echo "$dev" > /sys/bus/pci/devices/$dev/driver/unbind #> table pci
    done
}
usb() {
    echo "$1" > /sys/bus/usb/drivers/usb/unbind #> table usb
    echo "$2" > "/sys/bus/usb/drivers/$3/bind" #> table usb
}
unbind 0000:2d:00.0 0000:2d:00.1
usb 1-4 2-1:1.0 usb-storage
each() {
    local how=$1
    shift
    for unit in "$@"; do
        systemctl $how $unit #> table service
    done
}
each stop docker cups.path
systemctl stop "swtpm-$(cat /etc/id)" #> keep
node=0
while [ $node -lt 2 ]; do
    echo 10 > /sys/kernel/x/node$node/y #> keep
    node=$((node + 1))
done
