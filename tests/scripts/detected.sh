#!/bin/bash
#op prepare
# The display manager is found out, and what was done is noted in /tmp.
DISPMGR="null"
function stop_display_manager {
    if [[ -x /run/systemd/system ]]; then
        DISPMGR="$(grep 'ExecStart=' /etc/systemd/system/display-manager.service | awk -F/ '{print $NF}')"
        systemctl stop "$DISPMGR.service" #> table session
        while systemctl is-active --quiet "$DISPMGR.service"; do
            sleep 1 #> mistake
        done
    elif command -v rc-service; then
        /etc/init.d/xdm stop #> table session
    fi
}
stop_display_manager
while read -r dm; do
    sv down "$dm" #> table session
done < /tmp/managers
if test -e /tmp/vfio-is-nvidia; then
    rm -f /tmp/vfio-is-nvidia
fi
mkdir -p /var/log/vfio /run/vfio
chmod 755 /var/log/vfio
for (( i = 0; i < 16; i++ )); do
    if test -x /sys/class/vtconsole/vtcon"${i}"; then
        echo 0 > /sys/class/vtconsole/vtcon"${i}"/bind #> table session
        echo "$i" >> /tmp/bound-consoles
    fi
done
while fuser -s /dev/nvidia0; do :; done #> mistake
nvidia-smi --query-gpu=name
rm -f /etc/X11/xorg.conf.d/20-nvidia.conf #> keep
