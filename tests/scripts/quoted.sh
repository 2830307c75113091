#!/bin/sh
#op prepare
sh -c 'echo 0 > /sys/class/vtconsole/vtcon0/bind' #> table session
sudo bash -c "echo performance > /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor" #> table governor
cat > /etc/X11/xorg.conf.d/10-gpu.conf <<'EOF' #> keep
Section "Device"
    BusID "PCI:1:0:0" # no command: systemctl stop gdm
EndSection
EOF
curl -s http://127.0.0.1:8123/api -d '{"on": true}' #> keep
nohup evsieve --input /dev/input/by-id/kbd --output & #> table process
