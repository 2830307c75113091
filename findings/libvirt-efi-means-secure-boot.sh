#!/usr/bin/env bash
# firmware='efi' on Debian 13 is Secure Boot with Microsoft's keys, for q35 but not for pc.
#
# Guessed: plain OVMF, and Secure Boot where it is asked for.
# So is:   libvirt takes the first descriptor of /usr/share/qemu/firmware that fits, and Debian's first is the
#          one with enrolled keys: a q35 VM without a word on Secure Boot has it enabled, with SMM.
#          <loader secure='no'/> or the secure-boot feature disabled brings the plain one. Without
#          <acpi/> the definition is refused.
# Met by:  who passes a graphics card with an unsigned option ROM, or boots an unsigned system, in a VM
#          that was defined by hand.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), OVMF 2025.02-8+deb13u1.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11
debian trixie ovmf=2025.02-8+deb13u1

firmware() {
    domain_xml "<vcpu>2</vcpu>" "<features><acpi/></features>" "" |
        sed -e "s,<os>,<os firmware='efi'>," -e "s,machine='q35'>hvm</type>,machine='$1'>hvm</type>$2," \
            >"$root/tmp/vm.xml"
    virsh_here 'define /tmp/vm.xml; dumpxml --inactive vm; undefine vm --nvram' |
        grep -oE "OVMF_CODE[^<]*|<smm state='on'|enabled='[a-z]*' name='secure-boot'|error: unsupp.*" | paste -sd' '
}
expect "q35" "enabled='yes' name='secure-boot' OVMF_CODE_4M.ms.fd <smm state='on'" "$(firmware q35 "")"
expect "pc" "enabled='no' name='secure-boot' OVMF_CODE_4M.fd" "$(firmware pc "")"
expect "q35, <loader secure='no'/>" "enabled='no' name='secure-boot' OVMF_CODE_4M.fd" \
    "$(firmware q35 "<loader secure='no'/>")"
found
