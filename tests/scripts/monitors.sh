#!/bin/bash
#op prepare
export DISPLAY=:0
xrandr --output HDMI-A-0 --primary --output DisplayPort-2 --off #> table display
ddcutil setvcp 60 0x11 #> keep
systemctl start libvirt-nosleep@"$1" #> table inhibit
barrierc --no-daemon 192.168.1.2 & #> table process
