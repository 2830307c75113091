#!/usr/bin/env bash
# Of the words behind -cpu the last one does not count: "-feature" wins over "+feature", and both over "=".
#
# Guessed: QEMU goes through the words from left to right, so the last one about a feature counts.
# So is:   "feature=on" and "feature=off" are applied in their order, then each "+feature", and each
#          "-feature" at the very end. "-x,+x" is off, "+x,x=off" is on. Only mixtures with a later "="
#          get a warning. A second -cpu, though, replaces the first one with all of its words, while a
#          second -smp is merged with the first.
# Met by:  who adds +hypervisor or hypervisor=on to an old line of -cpu host,...,-hypervisor, or -smp 8
#          to <qemu:commandline>: libvirt's own -smp stays, and QEMU does not start.
# Seen:    QEMU 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1); no KVM is needed to see it.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie qemu-system-x86=1:10.0.13+ds-0+deb13u1 seabios base-files bash coreutils

asked='{"execute":"qom-get","arguments":{"path":"/machine/unattached/device[0]","property":"hypervisor"}}'
qemu() {
    printf '%s\n' '{"execute":"qmp_capabilities"}' "$asked" '{"execute":"quit"}' |
        inside qemu-system-x86_64 -machine q35 -nodefaults -display none -S -qmp stdio "$@" 2>&1 || true
}
# "false" or "true", with "warns: " where QEMU does.
state() {
    local answer
    answer=$(qemu -cpu "qemu64,$1" "${@:2}")
    [[ $answer != *Ambiguous* ]] || printf 'warns: '
    grep -oE '"return": (true|false)' <<<"$answer" | cut -d' ' -f2
}
expect "hypervisor=off,hypervisor=on" true "$(state hypervisor=off,hypervisor=on)"
expect "-hypervisor,+hypervisor" false "$(state -hypervisor,+hypervisor)"
expect "hypervisor=off,+hypervisor" true "$(state hypervisor=off,+hypervisor)"
expect "+hypervisor,hypervisor=off" "warns: true" "$(state +hypervisor,hypervisor=off)"
expect "-hypervisor,hypervisor=on" "warns: false" "$(state -hypervisor,hypervisor=on)"
expect "-hypervisor, and a second -cpu" true "$(state -hypervisor -cpu qemu64)"
expect "two -smp" "sockets (2) * dies (1) * modules (1) * cores (1) * threads (1) != maxcpus (4)" \
    "$(qemu -smp 2,sockets=2,cores=1,threads=1 -smp 4 | grep -o 'sockets (2).*')"
found
