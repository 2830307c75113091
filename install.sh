#!/usr/bin/env bash
# Install vfio-hooks on this machine, or remove it: install.sh --help.
set -euo pipefail
umask 022
export LC_ALL=C

SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# In a wheel, this file is inside the Python package; once installed, it is beside it.
for MODULES_FROM in "$SOURCE" "${SOURCE%/*}" "${SOURCE%/*/*}"; do
    [[ ! -d $MODULES_FROM/vfio_hooks ]] || break
done
# For packages: lay out the files of the hook, but none where libvirt looks for hooks.
PACKAGE_ONLY=false
# The hook runs with the distribution's own Python, so that an upgrade of Python never breaks it.
PYTHON=/usr/bin/python3
OLDEST_PYTHON="3, 11"
HOOKS=/etc/libvirt/hooks
STATE=/run/vfio-hooks
# The XML of domains as it was before vfio-hooks changed it.
BACKUPS=/var/lib/vfio-hooks

# Where the files go, below a prefix such as /usr/local.
use_prefix() {
    LIBRARIES=$1/lib/vfio-hooks
    COMMAND=$1/bin/vfio-hooks
    SHARE=$1/share
    FOLDERS_MADE=$LIBRARIES/folders-made
    # Each file, and the command line of vfio-hooks that prints it.
    DOCUMENTS=(
        "$SHARE/man/man1/vfio-hooks.1 manual vfio-hooks"
        "$SHARE/man/man5/vfio-hooks.toml.5 manual vfio-hooks.toml"
        "$SHARE/man/man7/vfio-hooks-check.7 manual vfio-hooks-check"
        "$SHARE/man/man7/vfio-hooks-migration.7 manual vfio-hooks-migration"
        "$SHARE/bash-completion/completions/vfio-hooks completion bash"
        "$SHARE/zsh/site-functions/_vfio-hooks completion zsh"
        "$SHARE/fish/vendor_completions.d/vfio-hooks.fish completion fish"
    )
}
# Where /usr is a read-only image, the first of these that can be written to is used.
ELSEWHERE=(/var/opt/vfio-hooks /etc/vfio-hooks)

DESTDIR=""
PREFIX=""
DRY_RUN=false
FAILURES=0
YES=false
CHANGES=0
SCRATCH=()
GONE=()
PROBE=vfio-hooks-probe.$$
NO_DISK=/nonexistent/$PROBE

# How a distribution installs packages, and which packages bring what is needed. The distribution is
# known by ID or ID_LIKE in its os-release: Ubuntu is like debian, Rocky Linux like fedora, Manjaro
# like arch, openSUSE like suse. To add another, add its lines here.
declare -A INSTALL=(
    [debian]="apt-get -o DPkg::Lock::Timeout=300 install --yes --quiet --no-install-recommends"
    [fedora]="dnf install --assumeyes --setopt=install_weak_deps=False"
    [arch]="pacman --sync --needed --noconfirm"
    [suse]="zypper --non-interactive install --no-recommends"
    [alpine]="apk add"
    [void]="xbps-install --sync --yes"
    [gentoo]="emerge --noreplace"
)
# A fresh Debian has no package lists, or old ones that name files which are gone. dnf and zypper
# refresh their lists themselves. pacman must not: with lists newer than the system, installing one
# package would be a partial upgrade.
declare -A REFRESH=([debian]="apt-get -o DPkg::Lock::Timeout=300 update --quiet")
declare -A PACKAGE=(
    [debian python3]=python3
    [debian lxml.etree]=python3-lxml
    [debian sh]=python3-sh
    [debian libvirt]=python3-libvirt
    [fedora python3]=python3
    [fedora lxml.etree]=python3-lxml
    [fedora sh]=python3-sh
    [fedora libvirt]=python3-libvirt
    [arch python3]=python
    [arch lxml.etree]=python-lxml
    [arch sh]=python-sh
    [arch libvirt]=libvirt-python
    [suse python3]=python3
    [suse lxml.etree]=python3-lxml
    [suse libvirt]=python3-libvirt-python
    [alpine python3]=python3
    [alpine lxml.etree]=py3-lxml
    [alpine libvirt]=py3-libvirt
    [void python3]=python3
    [void lxml.etree]=python3-lxml
    [void libvirt]=libvirt-python3
    [gentoo python3]=dev-lang/python
    [gentoo lxml.etree]=dev-python/lxml
    [gentoo libvirt]=dev-python/libvirt-python
)
MODULES=(lxml.etree sh libvirt)
# The command uses all three; the hook needs none. Where sh is missing, as openSUSE has no package
# of it, the standard library is used instead.
OPTIONAL="sh"

usage() {
    cat <<END
usage: install.sh [--dry-run] [--yes] [--destdir DIR] [--prefix DIR]   install, or upgrade
       install.sh --uninstall [the same options]                       remove it again
       install.sh --demo                                               see it work in an emulated host

  --yes          go on, although lines that you added to the hook of VFIO-Tools will not run
  --dry-run      print what would be done, and do nothing
  --destdir DIR  put the files below DIR; nothing else on this machine is touched
  --package      with --destdir, lay out the files of a package: the hook goes beside the modules,
                 with the script that puts it in place
  --python FILE  run the hook and the command with this Python instead of $PYTHON
  --prefix DIR   install below DIR instead of /usr/local, or of ${ELSEWHERE[0]} where that is
                 read-only; packages use /usr

Installed are the package ($LIBRARIES), the hook ($HOOKS/qemu) and
the command ($COMMAND), with manual pages and completions for bash, zsh and fish
below $SHARE. An existing hook is kept and still run. The hook of VFIO-Tools
is kept but not run, because vfio-hooks does everything that it does.
END
}

say() { printf '%s\n' "$*"; }

die() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

# Something that stops the installation. A dry run reports it and goes on, so that it lists all.
obstacle() {
    $DRY_RUN || die "$*"
    FAILURES=$((FAILURES + 1))
    say "would fail: $*"
}

# act TEXT COMMAND...: every change to this machine is made here.
act() {
    CHANGES=$((CHANGES + 1))
    if $DRY_RUN; then
        say "would $1"
    else
        say "$1"
        "${@:2}"
    fi
}

# remove TEXT FILE: a dry run also remembers the file as gone.
remove() {
    act "remove $1$2" rm -rf -- "$DESTDIR$2"
    GONE+=("$DESTDIR$2")
}

is_empty() {
    local one
    for one in "$1"/* "$1"/.[!.]*; do
        [[ ! -e $one && ! -L $one || " ${GONE[*]} " == *" $one "* ]] || return 1
    done
}

remove_scratch() {
    ((${#SCRATCH[@]} == 0)) || rm -rf -- "${SCRATCH[@]}"
}

exists() { [[ -e $1 || -L $1 ]]; }

# The folder itself, or the nearest existing folder above it.
nearest_folder() {
    local folder=$1
    until [[ -d $folder ]]; do folder=$(dirname "$folder"); done
    printf '%s\n' "$folder"
}

# Root lacks no permission: a folder that root cannot write to is mounted read-only.
is_writable() {
    local folder
    folder=$(nearest_folder "$DESTDIR$1")
    if ((EUID == 0)); then [[ -w $folder ]]; elif is_mounted ro "$folder"; then return 1; fi
}

is_mounted() { [[ ,$(findmnt --noheadings --output OPTIONS --target "$2" 2>/dev/null), == *,$1,* ]]; }

# On image-based systems (bootc, ostree, SteamOS, MicroOS) /usr/local may be read-only, too. An
# existing installation stays where it is.
choose_prefix() {
    local prefix
    for prefix in /usr/local "${ELSEWHERE[@]}"; do
        use_prefix "$prefix"
        [[ ! -d $DESTDIR$LIBRARIES ]] || return 0
    done
    for prefix in /usr/local "${ELSEWHERE[@]}"; do
        use_prefix "$prefix"
        ! is_writable "$LIBRARIES" || return 0
    done
    use_prefix /usr/local
}

# Before anything is changed.
look_for_obstacles() {
    local folder
    [[ ! -e /etc/NIXOS || -n $DESTDIR ]] ||
        die "NixOS manages these files itself: add the flake's module to your configuration (README, Install)"
    for folder in "$LIBRARIES" "${COMMAND%/*}" "$HOOKS"; do
        is_writable "$folder" ||
            obstacle "$folder is mounted read-only; to install elsewhere, use --prefix DIR"
    done
    for folder in "$HOOKS" "${COMMAND%/*}"; do
        ! is_mounted noexec "$(nearest_folder "$DESTDIR$folder")" ||
            obstacle "no program can run in $folder, because it is mounted with noexec"
    done
    [[ -n $DESTDIR || -d /etc/libvirt ]] ||
        say "attention: there is no /etc/libvirt. Either libvirt is not installed yet, or only as a user's own (flatpak), which cannot pass devices through"
}

# --- what it needs -------------------------------------------------------------------------

distribution() {
    local id ids
    # shellcheck source=/dev/null
    ids=$(. /etc/os-release 2>/dev/null && printf '%s %s' "${ID:-}" "${ID_LIKE:-}") || true
    for id in $ids; do
        [[ -z ${INSTALL[$id]:-} ]] || { printf '%s\n' "$id" && return; }
    done
}

# install_packages DISTRIBUTION PACKAGE...
install_packages() {
    local -a install refresh
    read -ra install <<<"timeout 900 ${INSTALL[$1]}"
    read -ra refresh <<<"${REFRESH[$1]:+timeout 900 ${REFRESH[$1]}}"
    shift
    export DEBIAN_FRONTEND=noninteractive
    "${install[@]}" "$@" </dev/null ||
        { ((${#refresh[@]})) && "${refresh[@]}" </dev/null && "${install[@]}" "$@" </dev/null; } ||
        die "cannot install $*: ${install[2]} says why above"
}

# image_words DISTRIBUTION PACKAGES: how to add packages to a system whose /usr is an image. Prints
# nothing if the package manager can write to /usr.
image_words() {
    if [[ -e /run/ostree-booted ]]; then
        printf 'rpm-ostree install %s (in the Containerfile of a bootc image: RUN dnf install -y %s)' "$2" "$2"
    elif is_writable /usr; then
        return
    elif [[ -n $(type -P transactional-update) ]]; then
        printf 'transactional-update pkg install %s' "$2"
    elif [[ -n $(type -P steamos-readonly) ]]; then
        printf 'steamos-readonly disable; pacman -S --needed %s; steamos-readonly enable (again after each update of SteamOS)' "$2"
    else
        printf 'put %s into it' "$2"
    fi
}

# need WHAT...: install the packages that bring these: "python3" or modules of it.
need() {
    local here what words
    local -a packages=()
    here=$(distribution)
    for what in "$@"; do
        if [[ -n ${PACKAGE["$here $what"]:-} ]]; then
            packages+=("${PACKAGE["$here $what"]}")
        elif [[ $what != "$OPTIONAL" || -z $here ]]; then
            obstacle "$PYTHON lacks ${*%%.*}; install your distribution's packages for it, then run this again"
            return 0
        fi
    done
    ((${#packages[@]})) || return 0
    words=$(image_words "$here" "${packages[*]}")
    if [[ -n $words ]]; then
        obstacle "/usr is a read-only image, to which only you can add packages: $words; restart, then run this again"
    elif [[ -z $(type -P "${INSTALL[$here]%% *}") ]]; then
        obstacle "${INSTALL[$here]%% *} is missing, and is needed to install ${packages[*]}"
    fi
    act "install the packages ${packages[*]}" install_packages "$here" "${packages[@]}"
}

need_python() {
    [[ -x $PYTHON ]] || need python3
    if $DRY_RUN && [[ ! -x $PYTHON ]]; then
        return
    fi
    "$PYTHON" -I -c "import sys; sys.exit(sys.version_info < ($OLDEST_PYTHON))" ||
        die "$PYTHON is $("$PYTHON" --version); vfio-hooks needs ${OLDEST_PYTHON/, /.} or newer"
}

need_modules() {
    local module
    local -a missing=()
    for module in "${MODULES[@]}"; do
        timeout 60 "$PYTHON" -I -c "import $module" 2>/dev/null || missing+=("$module")
    done
    ((${#missing[@]} == 0)) || need "${missing[@]}"
}

# --- files ---------------------------------------------------------------------------------

# Make a folder and those above it, and remember which were made, so that --uninstall knows.
make_folder() {
    # A dry run did not make any of those that it printed.
    [[ $1 != / && ! -d $DESTDIR$1 && " ${MADE[*]} " != *" $1 "* ]] || return 0
    make_folder "$(dirname "$1")"
    act "make the folder $1" mkdir -m 755 "$DESTDIR$1"
    MADE+=("$1")
}

remember_folders() {
    $DRY_RUN || ((${#MADE[@]} == 0)) || printf '%s\n' "${MADE[@]}" >>"$DESTDIR$FOLDERS_MADE"
}

# package_files FOLDER ACTION...: the program's modules and its manual pages, handed to find(1).
package_files() {
    (cd "$1" && find vfio_hooks -path vfio_hooks/installer -prune -o \
        \( -name '*.py' -o -path '*/man/*.[0-9]' \) "${@:2}")
}

# What `rehearse --host` needs in addition: an emulated host, and this script for it.
installer_files() { (cd "$1" && xargs -a packaging/installer "${@:2}"); }

# fingerprint MODULES INSTALLER: the files of the program below these folders, by what is in them.
fingerprint() {
    {
        package_files "$1" -print0 | sort -z | (cd "$1" && xargs -0r sha256sum)
        # A file may be missing where the program is damaged.
        installer_files "$2" sha256sum 2>/dev/null || true
    } | sha256sum
}

# Every version has a folder of its own, which gets its name only when it is complete. The hook and
# the command name the folder that they use. So a hook that is running during an upgrade, and imports
# modules as it goes, keeps its version to the end. That is why the previous version is kept.
install_package() {
    local version
    version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$MODULES_FROM/vfio_hooks/__init__.py")
    LIBRARY=$LIBRARIES/$version-$(fingerprint "$MODULES_FROM" "$SOURCE" | cut -c 1-12)
    local target=$DESTDIR$LIBRARY
    if [[ ! -d $target ]]; then
        act "install the package into $LIBRARY" unpack "$target"
    elif [[ $(fingerprint "$target" "$target/installer") != "$(fingerprint "$MODULES_FROM" "$SOURCE")" ]]; then
        act "install the package again into $LIBRARY, where files were changed" unpack "$target"
    fi
}

unpack() {
    local stage
    stage=$(mktemp -d "$DESTDIR$LIBRARIES/.new.XXXXXX")
    SCRATCH+=("$stage")
    copy_modules "$stage"
    # Compiled now, because the hook runs as root and would otherwise write caches later. A package
    # is compiled on the machine that it is installed on, by the Python there.
    $PACKAGE_ONLY || timeout 300 "$PYTHON" -I -m compileall -q -s "$stage" -p "$LIBRARY" "$stage"
    if [[ -d $1 ]]; then
        mv -T "$1" "$stage.damaged"
        SCRATCH+=("$stage.damaged")
    fi
    mv -T "$stage" "$1"
}

# Folders get mode 755 and files 644, whatever modes the checkout has.
copy_modules() {
    package_files "$MODULES_FROM" -exec cp --parents -t "$1" {} +
    mkdir "$1/installer"
    installer_files "$SOURCE" cp --parents -t "$1/installer"
    chmod -R a=r,u+w,a+X "$1"
    chmod 755 "$1"/installer/{install.sh,hooks/qemu,packaging/switch}
}

# put TEXT FILE [MODE]: write a file in one rename; it is executable unless MODE says otherwise.
put() {
    local file=$DESTDIR$2 mode=${3:-755}
    if [[ -f $file && ! -L $file && $(<"$file") == "$1" && $(stat -c %u:%a "$file") == "$EUID:$mode" ]]; then
        return 0
    fi
    act "write $2" replace "$1" "$file" "$mode"
}

replace() {
    local new
    new=$(mktemp "$(dirname "$2")/.vfio-hooks.XXXXXX")
    SCRATCH+=("$new")
    printf '%s\n' "$1" >"$new"
    chmod "$3" "$new"
    mv -T "$new" "$2"
}

is_our_hook() { [[ -f $1 ]] && grep -q 'from vfio_hooks\.dispatch import' "$1"; }
is_our_command() { [[ -f $1 ]] && grep -q 'from vfio_hooks\.cli import' "$1"; }

# The library that the installed hook uses. Prints nothing if no hook is installed.
library_in_use() {
    if is_our_hook "$DESTDIR$HOOKS/qemu"; then
        sed -n 's/^LIBRARY = "\([^"]*\)".*/\1/p' "$DESTDIR$HOOKS/qemu"
    fi
}

is_vfio_tools_hook() { [[ -f $1 ]] && sh "$SOURCE/packaging/switch" is-dispatcher "$1"; }
own_lines() { sh "$SOURCE/packaging/switch" own-lines "$1"; }

# These lines will not run any more. Running the whole hook would run the VM's executables twice.
give_up_own_lines() {
    local lines answer=""
    lines=$(own_lines "$1")
    [[ -n $lines ]] || return 0
    printf '%s\n' "attention: $HOOKS/qemu is the hook of VFIO-Tools with lines of your own, which will not run any more:" \
        "$lines" \
        "What they do belongs in an executable, $HOOKS/qemu.d/VM/prepare/begin/NAME or release/end/NAME, or in a table of vm.toml: man vfio-hooks-migration." >&2
    ! $DRY_RUN && ! $YES || return 0
    [[ ! -t 0 ]] || read -r -p "Go on without them? [y/N] " answer
    [[ $answer == [yY]* ]] || die "nothing is changed; to go on without these lines, which stay in $HOOKS/qemu.replaced: --yes"
}

# Linked, not moved, so that there is a hook at every moment.
keep_foreign_hook() {
    local hook=$DESTDIR$HOOKS/qemu name=qemu.kept why="vfio-hooks still runs it"
    if ! exists "$hook" || is_our_hook "$hook"; then
        return 0
    fi
    if is_vfio_tools_hook "$hook"; then
        give_up_own_lines "$hook"
        name=qemu.replaced
        why="vfio-hooks itself runs the executables in qemu.d"
    fi
    if exists "$DESTDIR$HOOKS/$name"; then
        cmp -s "$hook" "$DESTDIR$HOOKS/$name" && return 0
        obstacle "$HOOKS/qemu is not from vfio-hooks, and $HOOKS/$name already exists: move one of them away"
        return 0
    fi
    act "keep your own hook as $HOOKS/$name; $why" ln -PT "$hook" "$DESTDIR$HOOKS/$name"
}

# The hook refuses files that anybody but root could have written. That now also applies to folders
# that another hook used so far.
warn_of_untrusted() {
    local -a found
    mapfile -t found < <(
        find -L "$DESTDIR$HOOKS/qemu.d" -mindepth 1 \( ! -uid 0 -o -perm /022 \) 2>/dev/null
    )
    ((${#found[@]} == 0)) ||
        say "attention: users other than root can write to files in $HOOKS/qemu.d (${#found[@]}), so their VMs will not start: chown -R root: $HOOKS/qemu.d; chmod -R go-w $HOOKS/qemu.d"
}

install_hook() {
    put "$(sed "s|^LIBRARY = .*|LIBRARY = \"$LIBRARY\"|; s|^python=.*|python=$PYTHON|" "$SOURCE/hooks/qemu")" "$1"
}

# The hook, which no package may own, the script that puts it in place, and the examples.
install_package_files() {
    install_hook "$LIBRARIES/hook"
    put "$(sed "s|^library=.*|library=$LIBRARIES|; s|^python=.*|python=$PYTHON|" "$SOURCE/packaging/switch")" "$LIBRARIES/switch"
    local example
    while read -r example; do
        make_folder "$(dirname "$SHARE/doc/vfio-hooks/examples/$example")"
        put "$(<"$SOURCE/hooks/qemu.d/$example")" "$SHARE/doc/vfio-hooks/examples/$example" 644
    done < <(cd "$SOURCE/hooks/qemu.d" && find . -type f -printf '%P\n' | sort)
}

install_command() {
    put "#!$PYTHON -I
\"\"\"The vfio-hooks command.\"\"\"

import sys

sys.path.insert(0, \"$LIBRARY\")

from vfio_hooks.cli import main

sys.exit(main())" "$COMMAND"
}

# Manual pages and completions. One run of Python makes all of them, because its start is slow.
install_documents() {
    local stage line file modules=$DESTDIR$LIBRARY
    stage=$(mktemp -d)
    SCRATCH+=("$stage")
    # A wheel's modules lie beside other people's, which must not be run as root. So the installed
    # modules are used, which are also compiled; a dry run has none, and uses a copy.
    if $DRY_RUN; then
        modules=$stage
        copy_modules "$modules"
    fi
    # In a dry run, Python may not be installed yet.
    [[ ! -x $PYTHON ]] || timeout 300 "$PYTHON" -IB - "$modules" "$stage" "${DOCUMENTS[@]}" <<'END' ||
import os, sys
from contextlib import redirect_stdout
modules, stage, *documents = sys.argv[1:]
sys.path.insert(0, modules)
from vfio_hooks.cli import main
for path, *words in map(str.split, documents):
    with open(f"{stage}/{os.path.basename(path)}", "w", encoding="utf-8") as file:
        with redirect_stdout(file):
            main(words) and sys.exit(1)
END
        die "cannot make the manual pages and completions: Python says why above"
    for line in "${DOCUMENTS[@]}"; do
        file=${line%% *}
        put "$(cat -- "$stage/${file##*/}" 2>/dev/null)" "$file" 644
    done
}

# A helper that was started with a VM may use an old version for as long as the VM runs.
is_named_by_journal() { grep -qsF -- "$1" "$DESTDIR$STATE"/*.journal; }

# remove_old_versions KEEP...
remove_old_versions() {
    local folder
    for folder in "$DESTDIR$LIBRARIES"/[0-9]*-* "$DESTDIR$LIBRARIES"/.new.*; do
        [[ -d $folder ]] || continue
        [[ " $* " == *" ${folder#"$DESTDIR"} "* ]] || is_named_by_journal "${folder#"$DESTDIR"}" ||
            remove "the package " "${folder#"$DESTDIR"}"
    done
}

relabel() {
    if selinuxenabled 2>/dev/null; then
        act "set the SELinux labels" restorecon -R "$LIBRARIES" "$COMMAND" "$HOOKS" "${DOCUMENTS[@]%% *}"
    fi
}

install_all() {
    local before line
    MADE=()
    if exists "$DESTDIR$COMMAND" && ! is_our_command "$DESTDIR$COMMAND"; then
        obstacle "$COMMAND already exists and is not from vfio-hooks: move it away"
    fi
    $PACKAGE_ONLY || keep_foreign_hook
    before=$(library_in_use)
    make_folder "$LIBRARIES"
    make_folder "$(dirname "$COMMAND")"
    make_folder "$HOOKS/qemu.d"
    for line in "${DOCUMENTS[@]}"; do
        make_folder "$(dirname "${line%% *}")"
    done
    $PACKAGE_ONLY || remember_folders
    install_package
    if $PACKAGE_ONLY; then install_package_files; else install_hook "$HOOKS/qemu"; fi
    install_command
    install_documents
    # If everything was in place already, nothing is removed either.
    ((CHANGES == 0)) || remove_old_versions "$LIBRARY" "$before"
    [[ -n $DESTDIR ]] || ((CHANGES == 0)) || relabel
    ((CHANGES)) || say "everything is already installed"
}

# --- proof ---------------------------------------------------------------------------------

is_active() { systemctl is-active --quiet "$1" 2>/dev/null; }

pid_of() { cat "/run/$1.pid" 2>/dev/null || printf none; }

# The daemon that runs hooks for VMs.
daemon() {
    local name
    for name in virtqemud libvirtd; do
        if [[ ! -d /run/systemd/system ]]; then
            ! kill -0 "$(pid_of "$name")" 2>/dev/null || { printf '%s\n' "$name" && return; }
        elif is_active "$name.service" || is_active "$name.socket"; then
            printf '%s\n' "$name"
            return
        fi
    done
}

# Other hooks would also be run for the probe, and not all of them check the VM's name.
has_other_hooks() {
    [[ -x $HOOKS/qemu.kept || -n $(find -L "$HOOKS/qemu.d" -maxdepth 1 -type f -perm /111 2>&1) ]]
}

# Start a VM that cannot start, and print what libvirt says. Our hook refuses it because of a table
# that no version knows. If the hook is not run, libvirt complains about the VM's missing disk. QEMU
# is not started in either case.
probe() {
    timeout 120 virsh --connect qemu:///system create /dev/stdin 2>&1 <<END || true
<domain type='qemu'>
  <name>$PROBE</name> <memory unit='MiB'>1</memory> <os><type>hvm</type></os>
  <devices><disk type='file'><source file='$NO_DISK'/><target dev='vda'/></disk></devices>
</domain>
END
}

make_probe_managed() {
    local folder=$HOOKS/qemu.d/$PROBE
    SCRATCH+=("$folder")
    mkdir -m 755 "$folder"
    printf '[installation-probe]\n' >"$folder/vm.toml"
}

prove() {
    local name answer
    name=$(daemon)
    if [[ -z $name ]]; then
        say "libvirt is not running; it will find the hook when it starts"
    elif $DRY_RUN; then
        say "would start a trial VM that the hook refuses, and reload $name if libvirt does not run the hook"
    elif has_other_hooks; then
        reload_without_trial "$name" "other hooks would also be run for the trial VM"
    elif [[ -z $(type -P virsh) ]]; then
        reload_without_trial "$name" "virsh is not installed"
    else
        make_probe_managed
        answer=$(probe)
        # If libvirt has no hook yet, it looks for one only when it starts or is reloaded.
        if [[ $answer == *"$NO_DISK"* ]]; then
            reload "$name"
            answer=$(probe)
        fi
        judge "$answer"
    fi
}

reload_without_trial() {
    ((CHANGES == 0)) || reload "$1"
    say "not tested whether libvirt runs the hook: $2"
}

reload() {
    if [[ ! -d /run/systemd/system ]]; then
        act "reload $1, so that libvirt finds the hook" kill -HUP "$(pid_of "$1")"
    elif is_active "$1.service"; then
        act "reload $1, so that libvirt finds the hook" timeout 120 systemctl reload "$1.service"
    fi
}

# Fedora's policy lets libvirtd run hooks, but virtqemud only if this boolean is set.
selinux_hint() {
    [[ $(getenforce 2>/dev/null) != Enforcing ]] ||
        printf '; SELinux may have refused it (ausearch -m avc -ts recent): setsebool -P virt_hooks_unconfined on'
}

judge() {
    local last
    last=$(grep -v '^ *$' <<<"$1" | tail -n 1)
    case $1 in
    *installation-probe*) say "libvirt runs the hook: it refused to start the trial VM, as it should" ;;
    *"vfio-hooks: "*) die "libvirt runs the hook, but it does not work: vfio-hooks: ${last##*vfio-hooks: }" ;;
    *"$HOOKS/qemu"*) die "libvirt cannot run the hook: $last$(selinux_hint)" ;;
    *"$NO_DISK"*) die "libvirt does not run the hook: systemctl restart $(daemon), then run this again" ;;
    *) say "could not test whether libvirt runs the hook: $last" ;;
    esac
}

# --- removing it ---------------------------------------------------------------------------

# No hook changes the host from here to the end of this script.
stop_hooks() {
    [[ -e $DESTDIR$STATE/lock ]] && ! $DRY_RUN || return 0
    exec {lock}<>"$DESTDIR$STATE/lock"
    timeout 60 flock "$lock" || die "a hook has been running for a minute: try again when it has ended"
}

refuse_while_held() {
    local journal vm
    for journal in "$DESTDIR$STATE"/*.journal; do
        # A journal without a whole line has changed nothing: the state folder was full.
        read -r _ 2>/dev/null <"$journal" || continue
        vm=$(sed -n 's/.*"vm":"\([^"]*\)".*/\1/p' "$journal" | head -n 1)
        die "the host is still changed for the VM '${vm:-?}': shut it down, or if it is off: vfio-hooks undo '${vm:-?}'"
    done
}

# A second installation, below another prefix, may have taken over the hook.
refuse_hook_of_another() {
    local library
    library=$(library_in_use)
    [[ -z $library || $library/ == "$LIBRARIES"/* ]] ||
        die "$HOOKS/qemu belongs to the vfio-hooks in $library: remove that first, by its package or with --uninstall --prefix ${library%/lib/vfio-hooks*}"
}

remove_hook() {
    local hook=$DESTDIR$HOOKS/qemu kept
    is_our_hook "$hook" || return 0
    for kept in "$hook.kept" "$hook.replaced"; do
        exists "$kept" || continue
        act "put your own hook back as $HOOKS/qemu" mv -T "$kept" "$hook"
        GONE+=("$kept")
        return
    done
    remove "" "$HOOKS/qemu"
}

remove_documents() {
    local line file
    for line in "${DOCUMENTS[@]}"; do
        file=${line%% *}
        ! exists "$DESTDIR$file" || remove "" "$file"
    done
}

remove_folders_made() {
    local folder
    [[ -f $DESTDIR$FOLDERS_MADE ]] || return 0
    local -a made
    mapfile -t made < <(tac "$DESTDIR$FOLDERS_MADE")
    remove "the list " "$FOLDERS_MADE"
    for folder in "${made[@]}"; do
        if [[ -d $DESTDIR$folder ]] && is_empty "$DESTDIR$folder"; then
            act "remove the folder $folder" rmdir "$DESTDIR$folder"
            GONE+=("$DESTDIR$folder")
        fi
    done
}

remove_state() {
    rm -rf -- "$DESTDIR$STATE"/{lock,idle}
    rmdir --ignore-fail-on-non-empty "$DESTDIR$STATE"
}

tell_what_is_left() {
    local path
    local -a left=()
    for path in "$DESTDIR$HOOKS"/{vfio-hooks.toml,qemu.replaced,qemu.d/*} "$DESTDIR$BACKUPS"; do
        ! exists "$path" || [[ " ${GONE[*]} " == *" $path "* ]] || left+=("${path#"$DESTDIR"}")
    done
    ((${#left[@]} == 0)) || act "leave what is yours: ${left[*]}" :
}

uninstall_all() {
    refuse_hook_of_another
    stop_hooks
    refuse_while_held
    remove_hook
    ! is_our_command "$DESTDIR$COMMAND" || remove "" "$COMMAND"
    remove_documents
    remove_old_versions
    if exists "$DESTDIR$BACKUPS/devices"; then
        remove "the record of the VMs' devices, " "$BACKUPS/devices"
        ! is_empty "$DESTDIR$BACKUPS" || remove "" "$BACKUPS"
    fi
    remove_folders_made
    [[ ! -d $DESTDIR$STATE ]] || act "remove $STATE" remove_state
    ((CHANGES == 0)) || tell_what_is_left
    ((CHANGES)) || say "vfio-hooks is not installed"
}

# A command below /var or /etc is in nobody's PATH.
called() { if [[ $COMMAND == /usr/* ]]; then printf vfio-hooks; else printf '%s' "$COMMAND"; fi; }

# --- the command line ----------------------------------------------------------------------

main() {
    local task=install
    while (($#)); do
        case $1 in
        --help | -h) choose_prefix && usage && exit ;;
        --dry-run) DRY_RUN=true ;;
        --yes) YES=true ;;
        --uninstall) task=uninstall ;;
        --demo) task=demo ;;
        --package) PACKAGE_ONLY=true ;;
        --destdir)
            [[ -n ${2:-} ]] || die "--destdir needs a folder"
            DESTDIR=$(realpath -m -- "$2")
            shift
            ;;
        --python)
            [[ ${2:-} == /* ]] || die "--python needs the full path of a Python, such as $PYTHON"
            PYTHON=$2
            shift
            ;;
        --prefix)
            [[ ${2:-} == /* ]] || die "--prefix needs the full path of a folder, such as /usr"
            # It is written into programs and scripts, where these characters have a meaning.
            [[ $2 != *[[:space:]\"\'\|\&\\]* ]] || die "--prefix: no blanks, quotes, |, & or \\: $2"
            PREFIX=${2%/}
            shift
            ;;
        *) die "unknown option $1: see --help" ;;
        esac
        shift
    done
    ! $PACKAGE_ONLY || [[ -n $DESTDIR ]] || die "--package needs --destdir: it is for people who make packages"
    if [[ -n $PREFIX ]]; then use_prefix "$PREFIX"; else choose_prefix; fi
    trap remove_scratch EXIT
    trap 'exit 130' INT TERM HUP
    [[ -n $DESTDIR ]] || ((EUID == 0)) || $DRY_RUN || die "only root can do this: sudo $0"
    case $task in
    demo)
        ! $DRY_RUN || die "--demo has no --dry-run: it only changes an emulated host"
        need_python
        cd "$SOURCE"
        exec "$PYTHON" -m tests.vm.demo
        ;;
    install)
        look_for_obstacles
        need_python
        [[ -n $DESTDIR ]] || need_modules
        [[ -z $DESTDIR ]] || $DRY_RUN || mkdir -p "$DESTDIR"
        install_all
        [[ -n $DESTDIR ]] || warn_of_untrusted
        [[ -n $DESTDIR ]] || prove
        [[ -n $DESTDIR ]] || $DRY_RUN || ((CHANGES == 0)) ||
            say "next: sudo $(called) check VM; sudo $(called) init VM"
        ((FAILURES == 0)) || exit 1
        ;;
    uninstall) uninstall_all ;;
    esac
}

main "$@"
