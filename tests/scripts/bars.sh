#!/bin/bash
#op prepare
set -euo pipefail
GPU="0000:0c:00.0"
systemctl stop sddm #> table session
echo 8 > /sys/bus/pci/devices/$GPU/resource0_resize #> table gpu
echo 1 > "/sys/bus/pci/devices/${GPU}/resource2_resize" #> table gpu
