#!/bin/bash
#op prepare
gpu="0000:0b:00.0"
aud="0000:0b:00.1"
gpu_vd="$(cat /sys/bus/pci/devices/$gpu/vendor) $(cat /sys/bus/pci/devices/$gpu/device)"
echo "$gpu" > "/sys/bus/pci/devices/$gpu/driver/unbind" #> table pci
echo "$aud" > "/sys/bus/pci/devices/$aud/driver/unbind" #> table pci
echo "$gpu_vd" > /sys/bus/pci/drivers/vfio-pci/new_id #> mistake pci
echo vfio-pci > /sys/bus/pci/devices/$aud/driver_override #> table pci
echo $aud > /sys/bus/pci/drivers_probe #> table pci
echo 0000:00:01.0 > /sys/bus/pci/drivers/pcieport/unbind #> mistake pci
driverctl set-override 0000:0c:00.0 vfio-pci #> table pci
