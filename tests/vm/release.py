"""The guests: which packages they have and which files are put into them.

All of it is data. Its hash names the built image, so any change here builds a new one.
"""

from __future__ import annotations

from dataclasses import dataclass

RELEASES = ("trixie", "bookworm", "forky")
# Moves every day: where it cannot be installed or booted, that is no fault of a change here.
TESTING = "forky"
USER = "grassyloki"
SSH_MAC = "52:54:00:00:03:00"

# auditd is left out on purpose: with it, AppArmor's denials no longer reach the kernel log.
PACKAGES = """
    systemd systemd-sysv systemd-container dbus dbus-user-session libpam-systemd udev kmod
    linux-image-amd64 libvirt-daemon-system libvirt-clients qemu-system-x86 seabios
    python3 python3-lxml python3-libvirt python3-sh python3-argcomplete python3-click
    python3-psutil iproute2 pciutils procps psmisc lsof strace stress-ng openssh-server
    apparmor apparmor-utils numactl irqbalance linux-cpupower util-linux-extra dmsetup lvm2
    mdadm xserver-xorg-core xserver-xorg-video-dummy x11-xserver-utils xauth sudo less man-db
    bash-completion zsh fish xz-utils qemu-utils sway wlr-randr usbutils
""".split()

# What nobody reads in there, and drivers of hardware that is not there: less to unpack.
# The initial RAM disk needs no udev for its one disk; its md and lvm hooks would spend
# seconds on measuring which RAID code is fastest.
EXCLUDED = """
    /usr/share/doc/* /usr/share/locale/* /usr/share/man/* /usr/share/info/*
    /usr/share/initramfs-tools/hooks/dmsetup /usr/share/initramfs-tools/hooks/fsck
    /usr/share/initramfs-tools/hooks/keymap /usr/share/initramfs-tools/hooks/lvm2
    /usr/share/initramfs-tools/hooks/mdadm /usr/share/initramfs-tools/hooks/resume
    /usr/share/initramfs-tools/hooks/thermal /usr/share/initramfs-tools/hooks/udev
    /usr/share/initramfs-tools/scripts/*/keymap /usr/share/initramfs-tools/scripts/*/mdadm
    /usr/share/initramfs-tools/scripts/*/resume /usr/share/initramfs-tools/scripts/*/udev
    */lib/modules/*/kernel/drivers/gpu/drm/amd/* */lib/modules/*/kernel/drivers/gpu/drm/i915/*
    */lib/modules/*/kernel/drivers/gpu/drm/nouveau/* */lib/modules/*/kernel/drivers/gpu/drm/xe/*
    */lib/modules/*/kernel/drivers/gpu/drm/radeon/* */lib/modules/*/kernel/drivers/iio/*
    */lib/modules/*/kernel/drivers/infiniband/* */lib/modules/*/kernel/drivers/media/*
    */lib/modules/*/kernel/drivers/net/wireless/* */lib/modules/*/kernel/drivers/staging/*
    */lib/modules/*/kernel/sound/soc/*
""".split()

# Units that only cost time in a host that lives for minutes and has no network.
MASKED = """
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer man-db.timer fstrim.timer
    logrotate.timer e2scrub_all.timer e2scrub_reap.service lvm2-monitor.service
    mdmonitor-oneshot.timer mdcheck_start.timer mdcheck_continue.timer
    systemd-networkd-wait-online.service systemd-pstore.service serial-getty@ttyS0.service
    libvirt-guests.service systemd-tmpfiles-clean.timer systemd-binfmt.service
    proc-sys-fs-binfmt_misc.automount
""".split()


@dataclass(frozen=True)
class Release:
    """A Debian release that the emulated host can run."""

    suite: str

    @property
    def hostname(self) -> str:
        """The guest's own name."""
        return f"{self.suite}-host"

    @property
    def processor(self) -> str:
        """QEMU's CPU model, one that this release's kernel sees SMT siblings on.

        Under emulation Linux 6.1 does so on Intel's models only, and none does on `max`.
        x2apic goes with the IOMMU's eim, see hardware.py.
        """
        if self.suite == "bookworm":
            return "Haswell-v4,+x2apic"
        return "EPYC-v4,+topoext,-svm,+x2apic"

    @property
    def packages(self) -> tuple[str, ...]:
        """What is installed on top of Debian's minimal base."""
        # Else dracut would come, which has other settings.
        return (*PACKAGES, "initramfs-tools") if self.suite == TESTING else tuple(PACKAGES)

    @property
    def apt_options(self) -> tuple[str, ...]:
        """Settings of apt: a mirror may be behind with testing, whose lists hold for a week."""
        return ('Acquire::Check-Valid-Until "false"',) if self.suite == TESTING else ()

    def files(self) -> dict[str, str]:
        """Configuration, by path below the guest's root, in place before the packages."""
        return {
            "etc/hostname": f"{self.hostname}\n",
            "etc/hosts": f"127.0.0.1 localhost {self.hostname}\n",
            "etc/fstab": FSTAB,
            "etc/initramfs-tools/conf.d/emulated-host": "MODULES=list\nRESUME=none\n",
            "usr/share/initramfs-tools/modules.d/emulated-host.conf": INITRD_MODULES,
            "etc/modules-load.d/emulated-host.conf": MODULES,
            "etc/modprobe.d/emulated-host.conf": BLACKLIST,
            "etc/ssh/sshd_config.d/emulated-host.conf": SSHD,
            "etc/systemd/journald.conf.d/emulated-host.conf": JOURNALD,
            "etc/systemd/system.conf.d/emulated-host.conf": SYSTEMD,
            "etc/systemd/network/10-ssh.link": LINK,
            "etc/systemd/system/ssh-network.service": NETWORK,
            "etc/udev/rules.d/90-ssh-network.rules": NETWORK_RULE,
            "etc/systemd/system/libvirtd.service.d/emulated-host.conf": LIBVIRTD,
        }


# Without msize every read of the checkout is a round trip of 8 KiB (slow under emulation).
FSTAB = "src /src 9p trans=virtio,version=9p2000.L,ro,msize=262144,nofail 0 0\n"

# The last three are not needed that early, but loaded here, nothing has to wait for them.
INITRD_MODULES = "virtio_pci\nvirtio_blk\next4\nvirtio_net\n9p\n9pnet_virtio\n"

MODULES = """\
acpi_cpufreq
cpufreq_powersave
cpufreq_ondemand
cpufreq_conservative
cpufreq_userspace
"""

# Loading a module takes up to a second under emulation, and nothing here wants these.
BLACKLIST = "".join(
    f"blacklist {name}\n"
    for name in """
        aesni_intel crc32_pclmul crct10dif_pclmul edac_mce_amd ghash_clmulni_intel
        intel_rapl_common intel_rapl_msr iTCO_wdt joydev kvm_amd kvm_intel lpc_ich pcspkr sha1_ssse3
        sha256_ssse3 sha512_ssse3 vga16fb vmw_vmci vsock
    """.split()
)

# No PAM: every login would start a user manager, which takes seconds under emulation, and
# the scopes of the tests' own sessions would come and go between two snapshots.
SSHD = """\
UsePAM no
UseDNS no
PasswordAuthentication no
PermitRootLogin prohibit-password
KexAlgorithms curve25519-sha256
HostKey /etc/ssh/ssh_host_ed25519_key
MaxSessions 100
"""

JOURNALD = "[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n"

SYSTEMD = "[Manager]\nDefaultTimeoutStartSec=300\nDefaultTimeoutStopSec=60\n"

LINK = f"""\
[Match]
MACAddress={SSH_MAC}

[Link]
Name=ssh0
"""

# Started by the device's appearance, however late: a unit that waits for a device gives up
# after a while, and a busy machine's guest would then be up but out of reach.
NETWORK_RULE = f"""\
ACTION!="remove", SUBSYSTEM=="net", ATTR{{address}}=="{SSH_MAC}", TAG+="systemd", \
ENV{{SYSTEMD_WANTS}}+="ssh-network.service"
"""

NETWORK = """\
[Unit]
Description=The address that QEMU's user network forwards ssh to
DefaultDependencies=no

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/ip address replace 10.0.2.15/24 dev ssh0
ExecStart=/usr/sbin/ip link set ssh0 up
"""

# The packaged daemon leaves after two idle minutes, and starting it again costs seconds.
LIBVIRTD = "[Service]\nEnvironment=LIBVIRTD_ARGS=\n"

# The test domains' firmware: the CPU starts 16 bytes before the end, and halts for good.
IDLE_FIRMWARE = """\
python3 - << 'END'
rom = bytearray(65536)
rom[-16:-12] = bytes([0xFA, 0xF4, 0xEB, 0xFD])  # cli; hlt; back to the hlt
open("/var/lib/emulated-host/idle.bin", "wb").write(rom)
END"""

# Run inside the new root, after its packages are there.
SETUP = f"""\
set -eu
# The password * matches nothing, but unlike useradd's ! it does not lock the ssh key out.
useradd --create-home --uid 1000 --shell /bin/bash --groups sudo,libvirt --password '*' {USER}
for home in /root /home/{USER}; do
    mkdir -p -m 700 "$home/.ssh"
    cp /tmp/authorized_keys "$home/.ssh/authorized_keys"
    chmod 600 "$home/.ssh/authorized_keys"
done
chown -R {USER}: /home/{USER}
rm /tmp/authorized_keys
mkdir -p /src /var/lib/emulated-host
{IDLE_FIRMWARE}
# A set machine id keeps systemd from treating each throwaway boot as the first one.
echo 6d1f8a3c5b7e4f0a9c2d4e6f8a0b1c2d > /etc/machine-id
# Else libvirt asks QEMU for each of 460 CPU properties at each start, for six seconds.
echo 'capability_filters = [ "cpu-unavailable-features" ]' >> /etc/libvirt/qemu.conf
# Unpacking a module is much of the time that loading it takes under emulation.
find /lib/modules -name '*.ko.xz' -exec xz --decompress {{}} +
for version in /lib/modules/*; do
    depmod "${{version##*/}}"
done
update-initramfs -u
systemctl mask {" ".join(MASKED)}
systemctl enable ssh.service libvirtd.service irqbalance.service
"""

# Run in the guest once it is up for the first time, before the image is put away: libvirt's
# knowledge of its QEMU and AppArmor's compiled profiles then are on the disk of every boot.
WARM_UP = """\
set -eu
virsh --quiet capabilities > /dev/null
virsh --quiet domcapabilities --virttype qemu > /dev/null
virsh --quiet nodedev-list > /dev/null
"""
