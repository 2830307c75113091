#!/bin/bash
#op prepare
GVT_PCI=0000:00:02.0
GVT_GUID=a297db4a-f4c2-11e6-90f6-d3b88d6c9525
MDEV_TYPE=i915-GVTg_V5_4
echo "$GVT_GUID" > "/sys/bus/pci/devices/$GVT_PCI/mdev_supported_types/$MDEV_TYPE/create" #> table mdev
mdevctl start -u 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001 -p 0000:41:00.0 --type nvidia-63 #> table mdev
mdevctl start --uuid=83b8f4f2-509f-382f-3c1e-e6bfe0fa1002 #> table mdev
powerprofilesctl set performance #> table governor
