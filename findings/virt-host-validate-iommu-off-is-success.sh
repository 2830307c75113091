#!/usr/bin/env bash
# virt-host-validate ends with 0 where the IOMMU is off, and advises AMD's users a parameter that does not exist.
#
# Guessed: a warning gives another exit code; for AMD the advice is amd_iommu=on, and it is not given to
#          who has the parameter already.
# So is:   only a failure counts, and no finding about the IOMMU is one. "PASS" for IOMMU support says that
#          the firmware has a table, DMAR or IVRS, whatever the kernel does with it. For AMD, whose
#          IOMMU the kernel uses by itself, "iommu=pt iommu=1" is advised (the kernel knows no
#          iommu=1), and the parameters' presence changes nothing. With SVM or VT-x off in the
#          firmware the IOMMU's support is "unknown", even where it works.
# Met by:  who begins with it, as many guides do, or has a script that goes on when it "worked".
#          `vfio-hooks check` looks at the IOMMU groups, and says for each maker what helps.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), on files that look like those of such hosts.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie libvirt-daemon=11.3.0-3+deb13u3 base-files bash coreutils
mkdir -p "$root"/{dev/net,proc,sys}
# It asks whether it may read and write these, and no more.
touch "$root"/dev/{null,kvm,vhost-net,net/tun}
host=$temp/host

# validated VENDOR FLAG TABLE GROUPS CMDLINE: what it says on such a host, and its exit code.
validated() {
    rm -rf "$host"
    mkdir -p "$host"/sys/firmware/acpi/tables "$host"/sys/kernel/iommu_groups
    touch "$host/sys/firmware/acpi/tables/$3"
    [[ -z $4 ]] || mkdir "$host/sys/kernel/iommu_groups/$4"
    printf 'vendor_id\t: %s\nflags\t\t: fpu %s\n' "$1" "$2" >"$host/cpuinfo"
    echo "$5" >"$host/cmdline"
    # shellcheck disable=SC2016 # for the inner shell
    timeout 70 unshare --mount --pid --fork --kill-child bash -ec '
        mount --bind "$2/sys" "$1/sys"
        mount -t proc -o ro proc "$1/proc"
        mount --bind "$2/cpuinfo" "$1/proc/cpuinfo"
        mount --bind "$2/cmdline" "$1/proc/cmdline"
        chroot "$1" timeout 60 virt-host-validate qemu && echo "exit 0" || echo "exit $?"
    ' bash "$root" "$host" 2>&1 |
        grep -oE 'IOMMU support +: .*|by kernel +: .*|^exit.*' | tr -s ' ' | paste -sd'|'
}
on="IOMMU support : PASS|by kernel : PASS|exit 0"
off="IOMMU support : PASS|by kernel : WARN (IOMMU appears to be disabled in kernel. Add"
expect "AMD, on" "$on" "$(validated AuthenticAMD svm IVRS 1 "")"
expect "AMD, off" "$off iommu=pt iommu=1 to kernel cmdline arguments)|exit 0" \
    "$(validated AuthenticAMD svm IVRS "" "")"
expect "the same, with these" "$off iommu=pt iommu=1 to kernel cmdline arguments)|exit 0" \
    "$(validated AuthenticAMD svm IVRS "" "iommu=pt iommu=1")"
expect "AMD, on, but SVM off" "IOMMU support : WARN (Unknown if this platform has IOMMU support)|exit 1" \
    "$(validated AuthenticAMD "" IVRS 1 "")"
expect "Intel, on" "$on" "$(validated GenuineIntel vmx DMAR 1 "")"
expect "Intel, off, with intel_iommu=on" "$off intel_iommu=on to kernel cmdline arguments)|exit 0" \
    "$(validated GenuineIntel vmx DMAR "" intel_iommu=on)"
found
