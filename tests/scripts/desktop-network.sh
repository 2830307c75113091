#!/bin/bash
#op prepare
ADDRESS=192.168.1.110/24
DEVICE=$(nmcli -g device connection show | head -1)
ip link add name br0 type bridge #> keep
ip addr add $ADDRESS dev br0 #> keep
ip link set $DEVICE master br0 #> keep
if [[ ! -d /etc/qemu ]]; then
    mkdir /etc/qemu #> keep
fi
echo allow br0 > /etc/qemu/bridge.conf #> keep
sysctl net.ipv4.ip_forward=1 #> table write
systemctl stop gdm.service #> table session
systemctl stop amdfand.service #> table service
sed -i 's/^#autologin-user=/autologin-user=alice/' /etc/lightdm/lightdm.conf #> keep
systemd-tmpfiles --create /etc/tmpfiles.d/10-looking-glass.conf #> table shm
optimus-manager --switch integrated --no-confirm #> keep
function unload(){
    rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia #> table session
}
function main (){
    unload
}
main
modprobe gpu_sched #> needless session
modprobe i2c_algo_bit #> needless session
