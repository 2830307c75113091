#!/usr/bin/env bash
# `virt-xml --edit --cpu host-passthrough` throws the CPU's features away, --cpu mode=host-passthrough keeps them.
#
# Guessed: --edit changes the mode and leaves the rest, and the two spellings mean the same.
# So is:   the short form drops each <feature>, the <model> and check=, and keeps the topology and the
#          cache. The long form keeps all of it, the named model as well. Neither says so.
# Met by:  who changes a VM to host-passthrough by command: topoext, or a hypervisor flag that was switched
#          off, is gone, or is left beside a model that does not belong there any more.
# Seen:    virt-install 5.0.0 (Debian 1:5.0.0-5+deb13u1).
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie virtinst=1:5.0.0-5+deb13u1 libvirt-daemon base-files bash coreutils ca-certificates
prepare_virt_install

domain_xml "<vcpu>4</vcpu>" "<cpu mode='custom' match='exact' check='partial'><model>EPYC</model>
    <topology sockets='1' cores='4' threads='1'/><cache mode='passthrough'/>
    <feature policy='disable' name='hypervisor'/></cpu>" "" >"$root/tmp/vm.xml"

# edited CPU: what is in <cpu> after this, in short.
edited() {
    inside bash -c "virt-xml --connect test:///default --edit --cpu $1 </tmp/vm.xml" 2>&1 |
        tr '\n' ' ' | sed 's/.*\(<cpu .*\)<\/cpu>.*/\1/' |
        grep -oE '<cpu [^>]*|<[a-z]+( (policy|sockets|mode)="[^"]*")?' | sed 's/match="exact"//' |
        tr -d '<"' | tr -s ' \n' ' '
}
expect "--cpu host-passthrough" \
    "cpu mode=host-passthrough topology sockets=1 cache mode=passthrough " "$(edited host-passthrough)"
expect "--cpu mode=host-passthrough" "cpu mode=host-passthrough check=partial model \
topology sockets=1 cache mode=passthrough feature policy=disable " "$(edited mode=host-passthrough)"
found
