#!/bin/bash
#op prepare
# The layout of VFIO-Tools: one file for binding the card.
set -x
source "/etc/libvirt/hooks/kvm.conf"
systemctl stop display-manager.service #> table session
echo 0 > /sys/class/vtconsole/vtcon0/bind #> table session
echo 0 > /sys/class/vtconsole/vtcon1/bind #> table session
echo efi-framebuffer.0 > /sys/bus/platform/drivers/efi-framebuffer/unbind #> table session
sleep 10 #> mistake
modprobe -r nvidia_drm #> table session
modprobe -r nvidia_modeset #> table session
modprobe -r drm_kms_helper #> needless session
modprobe -r nvidia #> table session
modprobe -r i2c_nvidia_gpu #> table pci
modprobe -r drm #> needless session
virsh nodedev-detach $VIRSH_GPU_VIDEO #> table pci
virsh nodedev-detach $VIRSH_GPU_AUDIO #> table pci
modprobe vfio #> needless pci
modprobe vfio_pci #> needless pci
modprobe vfio_iommu_type1 #> needless pci
