#!/usr/bin/env zsh
#op prepare
emulate -L zsh
typeset -a DEVS=(0000:03:00.0 0000:03:00.1)
print "Stopping things"
su - jane -c 'XDG_RUNTIME_DIR=/run/user/1000 systemctl --user stop hyprland-session.target' #> table session
for dev in "${DEVS[@]}"; do
    echo $dev > /sys/bus/pci/devices/$dev/driver/unbind #> table pci
done
service libvirtd restart #> mistake
systemctl restart virtqemud.service #> mistake
ln -sf /run/user/1000/pulse /tmp/pulse
echo "started" | systemd-cat -t hook
xset -dpms #> table inhibit
sleep infinity & disown #> mistake
