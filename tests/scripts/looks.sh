#!/bin/bash
#op prepare
# These look, tell or remember, and change nothing.
log_title "start of $*"
warn "not the right host"
df | grep -q /data
xmllint --xpath '//hostdev' /etc/libvirt/qemu/win11.xml
until nc -z localhost 8080; do
    [ "$(docker inspect -f '{{.State.Status}}' web)" == running ]
    sleep 1 #> mistake
done
tac /run/noted
left=(1 2 3)
left[1]=""
left[$((1 + 1))]="x"
total=$[(4 * 1024) / 2]
zenity --list --title users
dunstify "it starts"
umount /data #> keep
find /sys/class/drm -name 'card*'
find /proc/irq -name smp_affinity_list -exec sh -c 'echo 0-1 > {}' \; #> keep
for slabs in $(find /sys/kernel/slab -name cpu_slabs); do
    echo 1 > $slabs #> keep
    echo "written to $slabs" >> $(cat /etc/log)
done
sysctl -n vm.swappiness
sysctl -qp /etc/sysctl.d/vm.conf #> keep
sysctl -f /etc/sysctl.d/vm.conf #> keep
# Only one of them is known, and only when it runs.
if [[ -L /sys/bus/pci/devices/0000:07:00.0/driver ]]; then
    driver=$(basename "$(readlink /sys/bus/pci/devices/0000:07:00.0/driver)")
else
    driver=""
fi
echo 0000:07:00.0 > "/sys/bus/pci/drivers/$driver/unbind" #> table pci
