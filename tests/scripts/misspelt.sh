#!/bin/bash
#op prepare
VIRSH_GPU_VIDEO=pci_0000_01_00_0
virsh nodedev-detach $VIRSH_GPU_VIDE #> table pci + mistake
virsh attach-device win10 /root/mouse.xml #> mistake
virsh list --all
