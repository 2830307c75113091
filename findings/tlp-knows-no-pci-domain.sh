#!/usr/bin/env bash
# TLP's lists of PCI devices know no domain: 0000:01:00.0 excludes nothing, and a device behind VMD has no name.
#
# Guessed: RUNTIME_PM_DENYLIST takes an address with its domain as well, and needs it for another domain.
# So is:   "0000:" is cut off the kernel's names, and what is left is compared with the list as text: only
#          "01:00.0" matches. Of any other domain nothing is cut off, not even the folder, so neither
#          10000:e1:00.0 nor e1:00.0 matches. There is no message. RUNTIME_PM_ENABLE and _DISABLE are
#          the same.
# Met by:  who keeps TLP from putting the VM's card or SSD to sleep, which some do not wake up from: by
#          default it writes power/control of every device, anew whenever the power source changes, and so over
#          the value of `power` below [gpu]. /sys, libvirt and vfio-hooks all have addresses with domains.
# Seen:    TLP 1.8.0 (Debian 1.8.0-1), on files that look like /sys.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie tlp=1.8.0-1 perl base-files bash coreutils mawk grep sed util-linux procps
ln -s mawk "$root/usr/bin/awk"

sys=$temp/sys
mkdir -p "$sys"/class/power_supply/AC "$sys"/bus/pci/drivers "$sys"/devices/system/cpu "$root"/{sys,proc,dev}
echo Mains >"$sys/class/power_supply/AC/type"
echo 1 >"$sys/class/power_supply/AC/online"

# Which devices `tlp ac` leaves alone with these in the list. It sees no file of this machine's /sys.
left_alone() {
    local device
    for device in 0000:01:00.0 0000:02:00.0 10000:e1:00.0; do
        mkdir -p "$sys/bus/pci/devices/$device/power"
        echo 0x030000 >"$sys/bus/pci/devices/$device/class"
        echo untouched >"$sys/bus/pci/devices/$device/power/control"
    done
    echo "RUNTIME_PM_DENYLIST=\"$1\"" >"$root/etc/tlp.d/vm.conf"
    # shellcheck disable=SC2016 # for the inner shell
    timeout 70 unshare --mount --pid --fork --kill-child bash -ec '
        mount --bind "$2" "$1/sys"
        mount -t proc -o ro proc "$1/proc"
        mount --bind /dev/null "$1/dev/null"
        chroot "$1" timeout 60 env -i PATH=/usr/sbin:/usr/bin tlp ac
    ' bash "$root" "$sys" >"$temp/told" 2>&1
    grep -l untouched "$sys"/bus/pci/devices/*/power/control | grep -oE '[0-9a-f:]+\.0' | paste -sd' '
}
touch "$root/dev/null"
expect "none" "" "$(left_alone "")"
expect "01:00.0" "0000:01:00.0" "$(left_alone 01:00.0)"
expect "0000:01:00.0" "" "$(left_alone 0000:01:00.0)"
expect "10000:e1:00.0" "" "$(left_alone 10000:e1:00.0)"
expect "e1:00.0" "" "$(left_alone e1:00.0)"
found
