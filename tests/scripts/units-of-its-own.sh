#!/bin/bash
#op started
systemd-run --uid=1000 -p CPUWeight=20 scream -i virbr0 #> table process
runuser -l alice -c '/usr/bin/looking-glass-client -F' & #> table process
swaymsg output DP-3 disable #> table display
sudo -u alice hyprctl dispatch dpms off DP-1 #> table display
pkill -9 -u alice #> table session
pkill -u alice steam #> keep
su -s /bin/bash -c 'barrierc -f host' bob & #> table process
sudo -u bob -g users remmina -c vm & #> table process
