#!/bin/bash
#op release
echo 1 > /sys/bus/pci/devices/0000:00:02.0/a297db4a-f4c2-11e6-90f6-d3b88d6c9525/remove #> needless mdev
mdevctl stop -u 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001 #> needless mdev
powerprofilesctl set balanced #> keep
