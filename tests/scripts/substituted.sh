#!/bin/bash
#op prepare
# Commands whose output is caught, and what holds the card by a function.
while [ "$(modprobe -r amdgpu 2>&1)" = "modprobe: FATAL: Module amdgpu is in use." ]; do #> table session
    sleep 1 #> mistake
done
if ! told=$(systemctl stop docker 2>&1); then #> table service
    echo "$told"
fi
echo "$(systemctl stop jellyfin 2>&1)" | tee -a /var/log/vm.log #> table service
zone=$(firewall-cmd --get-default-zone)
holders() {
    { lsof -t /dev/nvidia* || true; } | sort -u
}
held="$(holders)"
kill -9 $held #> table session
stop_it() { systemctl stop ollama; } #> table service
result=`stop_it`
(( $(date +%u) > 5 )) || sysctl vm.swappiness=$((5 + 5)) #> table memory
# A loop that something ends is no wait.
tries=0
while true; do
    modprobe -r nvidia && break #> table session
    tries=$((tries + 1))
    [ "$tries" -lt 5 ] || exit 1
done
while :; do sleep 1; done #> mistake
until false; do true; done #> mistake
modprobe kvm_intel #> needless
sudo -u alice systemctl --user stop xorg-server@0.service #> table session
killall /usr/lib/org_kde_powerdevil #> table session
udevadm trigger --action=remove /dev/dri/card1 #> table display
# A hook runs as root, and a sum sets its variables.
if [ "$EUID" -ne 0 ] || [ "$(id -u)" -ne 0 ]; then
    sudo bash "$0" "$@"
    exit
fi
waited=0
while pidof sway; do
    if [ $waited -ge 10 ]; then
        killall sway #> table session
    fi
    (( waited++ ))
done
limit=3
let limit+=1
[ $limit -lt 4 ] || systemctl stop plex #> table service
>&2 echo "stopped"
systemctl stop evdev-proxy #> table service
systemctl start evdev-proxy #> table service
pages=$(sysctl -n vm.nr_hugepages)
sysctl -a
