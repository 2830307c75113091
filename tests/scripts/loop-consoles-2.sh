#!/bin/sh
#op prepare
log() { echo "$(date) $1" >> /var/log/vfio.log; }
stop_manager() {
    if systemctl is-active --quiet "$1.service"; then
        echo "$1" > /tmp/vfio-manager
        systemctl stop "$1.service" #> table session
    fi
}
log "stopping"
stop_manager sddm
for i in 0 1 2; do
    if [ -e /sys/class/vtconsole/vtcon$i ]; then
        echo 0 > /sys/class/vtconsole/vtcon$i/bind #> table session
    fi
done
