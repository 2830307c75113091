#!/bin/sh
#op prepare
rc-service display-manager stop #> table session
sv down lightdm #> table session
doas modprobe -r radeon #> table session
echo 0 | doas tee /sys/class/vtconsole/vtcon1/bind #> table session
