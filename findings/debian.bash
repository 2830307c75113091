#!/usr/bin/env bash
# Sourced by the scripts beside it: packages of a Debian suite, unpacked in a temp folder and run
# there. Nothing is installed on this machine, and no service of it is asked or changed.
#
#   debian SUITE PACKAGE=VERSION...  downloads these and what they need into $root, from $components
#   inside COMMAND...                runs it with $root as /, at most 60 s (as root)
#   libvirt_11                       libvirt 11.3.0's real QEMU driver, in process, no daemon
#   defined VCPU OTHER DEVICES       what that keeps of a domain XML, or its error
#   virt_install OPTION...           the XML that virt-install 5.0.0 makes, once prepare_virt_install has run
#   empty_module NAME [ALIAS]        one for this machine's kernel, with kmod and binutils in $root
#   expect WHAT WANTED SEEN          ends the script with 1 where they differ
#   found                            the last line of a script: all is still as described
#
# A version that the suite no longer has ends the script with 2.

temp=$(mktemp -d)
root=$temp/root
trap 'rm -rf --one-file-system "$temp"' EXIT

debian() {
    local suite=$1 mirror
    shift
    # The one that this machine has its own packages from. apt-get, not bash, reads the $.
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
        grep -m1 '/debian/*$')
    mkdir -p "$temp"/apt/{lists/partial,archives/partial,etc/apt.conf.d,etc/preferences.d} "$root"
    : >"$temp/apt/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
        "$mirror $suite ${components:-main}" >"$temp/apt/etc/sources.list"
    _apt update || exit 2
    if ! _apt --yes --download-only install "$@"; then
        echo "$suite no longer has $*"
        exit 2
    fi
    local deb
    for deb in "$temp"/apt/archives/*.deb; do
        dpkg-deb --extract "$deb" "$root"
    done
    mkdir -p "$root/tmp"
    ln -sf bash "$root/usr/bin/sh"
    rm -rf "$temp/apt/archives"
}

_apt() {
    timeout 300 apt-get -qq -o Dir::Etc="$temp/apt/etc" -o Dir::State="$temp/apt" \
        -o Dir::State::status="$temp/apt/status" -o Dir::State::lists="$temp/apt/lists" \
        -o Dir::Cache="$temp/apt" -o Debug::NoLocking=1 -o APT::Sandbox::User=root \
        -o APT::Architecture=amd64 -o APT::Install-Recommends=false \
        -o Acquire::Languages=none "$@"
}

# /dev and /sys are this machine's; /proc is new and read-only, so nothing below it can be changed.
# The shell stays as process 1, to reap what daemons leave behind.
inside() {
    # shellcheck disable=SC2016 # for the inner shell
    timeout 70 unshare --mount --pid --fork --kill-child bash -ec '
        root=$1
        shift
        mount --rbind /dev "$root/dev"
        mount --rbind /sys "$root/sys"
        mount -t proc -o ro proc "$root/proc"
        chroot "$root" timeout 60 "$@" && exit 0 || exit $?
    ' bash "$root" "$@"
}

libvirt_11() {
    local version=11.3.0-3+deb13u3
    debian trixie "libvirt-clients=$version" "libvirt-daemon-driver-qemu=$version" \
        "libvirt-common=$version" qemu-system-x86=1:10.0.13+ds-0+deb13u1 \
        libxml2-utils base-files bash coreutils mawk
    ln -s mawk "$root/usr/bin/awk"
    mkdir -p "$root/tmp/libvirt/etc"
    printf '%s\n' root:x:0:0::/root:/bin/sh libvirt-qemu:x:64055:64055::/:/bin/false \
        >"$root/etc/passwd"
    printf '%s\n' root:x:0: kvm:x:36: libvirt-qemu:x:64055: >"$root/etc/group"
    printf '%s\n' 'user = "+0"' 'group = "+0"' 'security_driver = "none"' \
        >"$root/tmp/libvirt/etc/qemu.conf"
}

virsh_here() {
    inside virsh --quiet --connect 'qemu:///embed?root=/tmp/libvirt' "$@" 2>&1 |
        grep -v '^20[0-9-]* [0-9:.+]*: [0-9]*: '
}

# A domain XML of two vCPUs and 1 GiB: its <vcpu>, other elements, devices.
domain_xml() {
    cat <<XML
<domain type='qemu'><name>vm</name><memory>1048576</memory>$1<os><type machine='q35'>hvm</type>
</os>$2<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>$3</devices></domain>
XML
}

defined() {
    domain_xml "$@" >"$root/tmp/vm.xml"
    virsh_here 'define /tmp/vm.xml; dumpxml --inactive vm; undefine vm'
}

# "valid" or "invalid": what libvirt's published schema says of the same.
by_schema() {
    domain_xml "$@" >"$root/tmp/vm.xml"
    if inside virt-xml-validate /tmp/vm.xml domain >/dev/null 2>&1; then
        echo valid
    else
        echo invalid
    fi
}

# Needs virtinst and ca-certificates in $root.
prepare_virt_install() {
    mkdir -p "$root/etc/ssl/certs"
    cat "$root"/usr/share/ca-certificates/mozilla/*.crt >"$root/etc/ssl/certs/ca-certificates.crt"
}

# A dry run against libvirt's test driver: only the XML is made.
virt_install() {
    inside virt-install --connect test:///default --name vm --memory 1024 --disk none --import \
        --osinfo detect=off,require=off --check all=off --dry-run --print-xml "$@" 2>&1
}

# depmod is run anew after each. Nothing of it can be loaded.
empty_module() {
    local folder
    folder=/usr/lib/modules/$(uname -r)
    mkdir -p "$root$folder"
    printf '.section .modinfo,"a"\n.asciz "name=%s"\n' "${1//-/_}" >"$root/tmp/module.s"
    [[ -z ${2-} ]] || printf '.asciz "alias=%s"\n' "$2" >>"$root/tmp/module.s"
    inside as -o "$folder/$1.ko" /tmp/module.s
    inside depmod 2>"$temp/depmod"
}

expect() {
    if [[ $3 != "$2" ]]; then
        echo "changed: $1"
        echo "  was: $2"
        echo "  now: $3"
        exit 1
    fi
    echo "$1: ${3:-(nothing)}"
}

found() {
    echo "as found"
}
