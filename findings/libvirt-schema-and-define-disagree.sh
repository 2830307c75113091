#!/usr/bin/env bash
# libvirt's schema and `virsh define` each accept what the other refuses.
#
# Guessed: the schema is the stricter one: what virt-xml-validate finds valid can be defined.
# So is:   the schema has patterns, not ranges: a reversed CPU list and a name with a slash are valid
#          and cannot be defined. The other way round, a CPU list with spaces or a comma at its end
#          is invalid, and define reads it.
# Met by:  who checks XML with virt-xml-validate, or by `virsh edit`, which asks the schema first.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3).
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11

by_define() {
    domain_xml "$@" >"$root/tmp/vm.xml"
    [[ -z ${name-} ]] || sed -i "s,<name>vm<,<name>$name<," "$root/tmp/vm.xml"
    virsh_here 'define /tmp/vm.xml; dumpxml --inactive vm; undefine vm' |
        grep -oE "error: [a-zX].*|cpuset='[^']*'" | head -1
}
list() {
    expect "schema on cpuset='$1'" "$2" "$(by_schema "<vcpu cpuset='$1'>2</vcpu>" "" "")"
    expect "define" "$3" "$(by_define "<vcpu cpuset='$1'>2</vcpu>" "" "")"
}
list 7-4 valid "error: invalid argument: Failed to parse bitmap '7-4'"
list ^3 valid "error: unsupported configuration: Invalid value of 'cpuset': ^3"
list '0-3, 5' invalid "cpuset='0-3,5'"
list '0 - 3' invalid "cpuset='0-3'"
list 0-3, invalid "cpuset='0-3'"

name=a/b
expect "define on the name a/b" "error: XML error: name a/b cannot contain '/'" \
    "$(by_define "<vcpu>2</vcpu>" "" "")"
expect "schema" "/tmp/vm.xml validates" \
    "$(inside virt-xml-validate /tmp/vm.xml domain 2>&1 | tail -1)"
found
