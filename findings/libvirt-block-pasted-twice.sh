#!/usr/bin/env bash
# A second block of one name in a domain's XML is merged, dropped or refused, depending on its name.
#
# Guessed: refused as an error, as the schema says, or the first one counts for all of them.
# So is:   two <cputune>, <features> and <memoryBacking> become one with the lines of both. Of a second
#          <clock> the timers count, but not its offset. A second <cpu>, <vcpu>, disk <driver> or <rom> is
#          dropped without a word. A second <numatune> or <emulatorpin> is refused.
# Met by:  who pastes the blocks of a guide into XML that already has them: the pins arrive, the CPU mode
#          and the ROM file do not.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), its QEMU driver, by `virsh define`.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11

cpus="<vcpu>2</vcpu>"
kept() { grep -oE "$1" | paste -sd' '; }

pins="<cputune><vcpupin vcpu='0' cpuset='0'/></cputune><cputune><vcpupin vcpu='1' cpuset='1'/></cputune>"
expect "the schema, two <cputune>" invalid "$(by_schema "$cpus" "$pins" "")"
expect "two <cputune>" "vcpu='0' cpuset='0' vcpu='1' cpuset='1'" \
    "$(defined "$cpus" "$pins" "" | kept "vcpu='[01]' cpuset='.'")"
expect "two <features>" "<relaxed <vapic" "$(defined "$cpus" \
    "<features><hyperv><relaxed state='on'/></hyperv></features>
     <features><hyperv><vapic state='on'/></hyperv></features>" "" | kept '<(relaxed|vapic)')"
expect "two <memoryBacking>" "<hugepages <locked" "$(defined "$cpus" \
    "<memoryBacking><locked/></memoryBacking><memoryBacking><hugepages/></memoryBacking>" "" |
    kept '<(hugepages|locked)')"
expect "two <clock>" "offset='utc' hypervclock" "$(defined "$cpus" \
    "<clock offset='utc'/>
     <clock offset='localtime'><timer name='hypervclock' present='yes'/></clock>" "" |
    kept "offset='[a-z]*'|hypervclock")"
expect "two <cpu>" "mode='host-model'" "$(defined "$cpus" \
    "<cpu mode='host-model'/><cpu mode='host-passthrough'><topology sockets='1' cores='2' threads='1'/></cpu>" "" |
    kept "mode='host-[a-z]*'|<topology")"
expect "two <vcpu>" ">2<" "$(defined "<vcpu>2</vcpu><vcpu>4</vcpu>" "" "" | grep '<vcpu' | kept '>[0-9]<')"
expect "two <rom>" "<rom bar='on'/>" "$(defined "$cpus" "" \
    "<hostdev mode='subsystem' type='pci' managed='yes'><source>
     <address domain='0' bus='1' slot='0' function='0'/></source>
     <rom bar='on'/><rom file='/card.rom'/></hostdev>" | kept '<rom.*')"
expect "two <driver>" "<driver name='qemu' type='raw'/>" "$(defined "$cpus" "" \
    "<disk type='file' device='disk'><driver name='qemu' type='raw'/><driver cache='none' io='native'/>
     <source file='/disk'/><target dev='vda' bus='virtio'/></disk>" | kept '<driver.*')"
expect "two <numatune>" "only one numatune is supported" "$(defined "$cpus" \
    "<numatune><memory mode='strict' nodeset='0'/></numatune>
     <numatune><memory mode='preferred' nodeset='0'/></numatune>" "" | kept 'only one numatune.*')"
found
