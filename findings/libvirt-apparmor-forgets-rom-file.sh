#!/usr/bin/env bash
# libvirt's AppArmor profile of a VM names each file in its XML, but not the ROM file of a passed-through card.
#
# Guessed: <rom file='...'/> is in the profile that libvirt makes for each VM, as disks, the firmware,
#          ACPI tables and event devices are.
# So is:   it is not, and neither is that of an <interface type='hostdev'>. QEMU may read it only where the
#          rules for all VMs allow it, as in /usr/share/vgabios, not in /var/lib/libvirt/vbios,
#          /etc/libvirt or /opt. QEMU then says "failed to find romfile". For an event device the target
#          of a link in /dev/input/by-id is in the profile, as it should be.
# Met by:  who gives a card a saved ROM, on Debian, Ubuntu or openSUSE: the file is there, anybody may read
#          it, and the VM does not start.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), virt-aa-helper; AppArmor need not be on to see it.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

version=11.3.0-3+deb13u3
debian trixie "libvirt-daemon=$version" "libvirt-daemon-common=$version" \
    "libvirt-daemon-system=$version" base-files bash coreutils qemu-system-x86=1:10.0.13+ds-0+deb13u1
mkdir -p "$root"/var/lib/libvirt/vbios "$root"/tmp/by-id
touch "$root"/var/lib/libvirt/vbios/card.rom "$root"/tmp/{event5,slic.bin}
ln -s ../event5 "$root/tmp/by-id/keyboard"

# allowed TEXT DEVICES ELEMENTS: the rules with this text in the profile of a VM with these.
allowed() {
    domain_xml "<uuid>0f3c7b52-6a7e-4a55-9d9c-2f6b1f0c9a13</uuid><vcpu>2</vcpu>" "$3" "$2" \
        >"$root/tmp/vm.xml"
    inside bash -c '/usr/lib/libvirt/virt-aa-helper --create --dryrun \
        --uuid libvirt-0f3c7b52-6a7e-4a55-9d9c-2f6b1f0c9a13 </tmp/vm.xml' 2>&1 |
        grep "$1" | sed 's/^ *//' || true
}
card="<source><address type='pci' domain='0' bus='1' slot='0' function='0'/></source>
    <rom file='/var/lib/libvirt/vbios/card.rom'/>"
device="<hostdev mode='subsystem' type='pci' managed='yes'>${card/ type=\'pci\'/}</hostdev>"
expect "the card's VFIO group" '"/dev/vfio/[0-9]*" rw,' "$(allowed '\[0-9' "$device" "")"
expect "its ROM file" "" "$(allowed card.rom "$device" "")"
expect "that of a network card" "" "$(allowed card.rom "<interface type='hostdev'>$card</interface>" "")"
expect "an event device by a link" '"/tmp/event5" rw,' \
    "$(allowed event5 "<input type='evdev'><source dev='/tmp/by-id/keyboard'/></input>" "")"
expect "the rules for all VMs" "/usr/share/vgabios/** r," \
    "$(grep -ohE '/[a-z/]*(vgabios|vbios|/opt).*' "$root/etc/apparmor.d/abstractions/libvirt-qemu")"
found
