#!/bin/bash
#op release
set -x
modprobe -r vfio_pci #> needless pci
modprobe -r vfio_iommu_type1 #> needless pci
modprobe -r vfio #> needless pci
virsh nodedev-reattach pci_0000_0a_00_0 #> needless pci
virsh nodedev-reattach pci_0000_0a_00_1 #> needless pci
echo 1 > /sys/class/vtconsole/vtcon0/bind #> needless session
nvidia-xconfig --query-gpu-info > /dev/null 2>&1
echo "efi-framebuffer.0" > /sys/bus/platform/drivers/efi-framebuffer/bind #> needless session
modprobe nvidia_drm #> needless session
modprobe nvidia #> needless session
systemctl start display-manager.service #> needless session
