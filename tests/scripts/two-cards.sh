#!/bin/bash
#op prepare
# Two cards, Plasma stays on the other one.
echo remove > /sys/bus/pci/devices/0000:01:00.0/drm/card1/uevent #> table display
killall -9 Hyprland #> table session
systemctl stop nvidia-persistenced #> needless session
fuser -k /dev/nvidia0 #> table session
systemctl isolate multi-user.target #> table session
