#!/usr/bin/env bash
# `virt-xml VM --remove-device --hostdev 01:00.0` refuses to remove a card that is no longer in the host.
#
# Guessed: it looks for the <hostdev> with this address in the VM's XML, and removes it.
# So is:   it looks for the device on the host first, and "did not find a matching node device", so of all
#          devices the one that is gone cannot be named. By its number among the VM's it goes, "1"
#          being the first one. The number is also all that --edit knows, where an address is a change:
#          --edit --hostdev without a number is about the first device. managed= is unknown to both.
# Met by:  whose card was taken out or has another address now, so that the VM does not start. What works is
#          `virsh detach-device VM FILE --config` with the old <source> in a file.
# Seen:    virt-install 5.0.0 (Debian 1:5.0.0-5+deb13u1), libvirt 11.3.0 (Debian 11.3.0-3+deb13u3).
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11
debian trixie virtinst=1:5.0.0-5+deb13u1 ca-certificates
prepare_virt_install

hostdev() {
    echo "<hostdev mode='subsystem' type='pci' managed='yes'><source>
        <address domain='0' bus='1' slot='0' function='$1'/></source></hostdev>"
}
cat >"$root/tmp/test.xml" <<XML
<node><domain type='test'><name>vm</name><memory>1048576</memory><vcpu>1</vcpu><os><type>hvm</type></os>
<devices>$(hostdev 0)$(hostdev 1)</devices></domain></node>
XML
# The functions of bus 1 that a change takes away or touches, or the error.
changed() {
    inside virt-xml --connect test:///tmp/test.xml vm --print-diff "$@" 2>&1 |
        grep -E '^[-+] |ERROR' | grep -oE "function=\"0x.|Did not.*|Unknown.*" | paste -sd' '
}
expect "--remove-device, 01:00.0" "Did not find a matching node device for '01:00.0'" \
    "$(changed --remove-device --hostdev 01:00.0)"
expect "--remove-device, 2" 'function="0x1' "$(changed --remove-device --hostdev 2)"
expect "--edit, managed" "Unknown --hostdev options: ['managed']" "$(changed --edit 2 --hostdev managed=no)"

hostdev 0 >"$root/tmp/gone.xml"
domain_xml "<vcpu>1</vcpu>" "" "$(hostdev 0)$(hostdev 1)" >"$root/tmp/vm.xml"
expect "virsh detach-device" "function='0x1'" "$(virsh_here 'define /tmp/vm.xml
    detach-device vm /tmp/gone.xml --config; dumpxml --inactive vm; undefine vm' |
    grep -A3 '<hostdev' | grep -oE "function='0x[01]'")"
found
