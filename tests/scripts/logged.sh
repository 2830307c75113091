#!/bin/bash
#op prepare
readonly LOG=/var/log/vfio/$(basename "$0").log
exec > >(tee -a "$LOG") 2>&1
trap 'echo failed at $LINENO; exit 1' ERR
declare -A DEVICES=([gpu]=0000:01:00.0 [audio]=0000:01:00.1)
declare -a MODULES=(nvidia_uvm nvidia_drm nvidia_modeset nvidia)
(( UID == 0 )) || exit 1
for module in "${MODULES[@]}"; do
    if grep -q "^$module " <(lsmod); then
        rmmod "$module" || { echo "cannot unload $module" >&2; exit 1; } #> table session
    fi
done
for name in "${!DEVICES[@]}"; do
    driverctl --nosave set-override "${DEVICES[$name]}" vfio-pci #> table pci
done
virsh -c qemu:///system domstate "$1" &>/dev/null
virsh vcpupin "$1"
virsh vcpupin "$1" 0 4 #> mistake
