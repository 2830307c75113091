#!/bin/bash
#op release
gpu="0000:0b:00.0"
echo "1002 73bf" > "/sys/bus/pci/drivers/vfio-pci/remove_id" #> needless pci
echo 1 > "/sys/bus/pci/devices/$gpu/remove" #> needless gpu
sleep 2 #> mistake
echo 1 > "/sys/bus/pci/rescan" #> needless gpu
