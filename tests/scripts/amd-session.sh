#!/usr/bin/env bash
#op prepare
set -e
user=alice
# The user's own units go first.
systemctl --user -M "$user@" stop plasma* #> table session
killall gdm-x-session #> table session
pkill -KILL -u "$user" #> table session
while lsof /dev/dri/card0 >/dev/null; do
    sleep 0.5 #> mistake
done
rmmod amdgpu #> table session
modprobe -r snd_hda_intel #> table pci
