#!/bin/bash
#op prepare
# The desktop comes back on the other card while the VM runs.
driver=/sys/bus/pci/drivers
systemctl stop sddm #> table session
modprobe -r nouveau || true #> table session
rmmod nvidia_drm #> table session
if lspci | grep -qi radeon; then
    modprobe -r radeon #> table session
fi
systemctl start sddm #> table session
