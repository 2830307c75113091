#!/bin/bash
#op prepare
# Desktops and service managers that are less common.
stop_manager() {
    if command -v sv; then
        if sv status "$1"; then
            sv stop "$1" #> table session
        fi
    fi
}
stop_manager lightdm
stop_manager mdm
killall bspwm #> table session
killall -9 latte-dock #> table session
rc-service libvirt-inhibit start #> table inhibit
qdbus org.example.Session /Session logout 0 #> table session
systemctl kill "user@$(id -u alice).service" #> table session
echo -n remove > "/sys/bus/pci/devices/0000:07:00.0/drm/$(ls /sys/class/drm)/uevent" #> table display
systemctl enable --now sshd #> table service
if lsmod | grep ipmi_si; then
    rmmod ipmi_si #> needless session
fi
modprobe
