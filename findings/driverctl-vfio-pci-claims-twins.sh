#!/usr/bin/env bash
# driverctl's override of one device to vfio-pci also gives vfio-pci the vendor and device id of all its twins.
#
# Guessed: `driverctl set-override ADDRESS vfio-pci` writes driver_override of that one device, which is
#          what the kernel made driver_override for.
# So is:   before that it writes the device's ids to vfio-pci's new_id. From then on vfio-pci takes every
#          device of this kind that has no driver: a second card that is unbound, or plugged in later.
#          `unset-override` does not take the ids back.
# Met by:  who has two equal cards, SSDs or USB controllers, and wants one of them in a VM.
# Seen:    driverctl 0.115 (Debian 0.115-2), on files that look like /sys.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie driverctl=0.115-2 base-files bash coreutils
sys=$root/tmp/sys
device=$sys/devices/pci0000:00/0000:05:00.0
mkdir -p "$device" "$sys/bus/pci/devices" "$sys/bus/pci/drivers/vfio-pci" "$sys/module/vfio-pci" \
    "$sys/module/vfio_pci/drivers/pci:vfio-pci" "$root/sys"
ln -s ../../../devices/pci0000:00/0000:05:00.0 "$sys/bus/pci/devices/0000:05:00.0"
echo 0x10de >"$device/vendor"
echo 0x2684 >"$device/device"
echo '(null)' >"$device/driver_override"
# As if the kernel had bound it.
ln -s ../../../bus/pci/drivers/vfio-pci "$device/driver"

# /sys is those files, for this one program.
driverctl() {
    # shellcheck disable=SC2016 # for the inner shell
    timeout 60 unshare --mount bash -ec 'mount --bind "$1/tmp/sys" "$1/sys"
        mount --rbind /dev "$1/dev"; shift; exec "$@"' bash "$root" \
        chroot "$root" driverctl --nosave "$@"
}
ids=$sys/module/vfio_pci/drivers/pci:vfio-pci
driverctl set-override 0000:05:00.0 vfio-pci
expect "driver_override" vfio-pci "$(<"$device/driver_override")"
expect "new_id" "0x10de 0x2684" "$(<"$ids/new_id")"
rm "$ids/new_id"
driverctl unset-override 0000:05:00.0
expect "driver_override, taken back" "" "$(<"$device/driver_override")"
expect "ids that are taken back" "" "$(ls "$ids")"
found
