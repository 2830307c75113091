#!/bin/sh
#op prepare
echo device_specific > /sys/bus/pci/devices/0000:03:00.0/reset_method #> table gpu
echo 0 > /sys/bus/pci/devices/0000:03:00.0/d3cold_allowed #> table gpu
echo on > /sys/bus/pci/devices/0000:03:00.0/power/control #> table gpu
echo 8 > /sys/bus/pci/devices/0000:03:00.0/resource0_resize #> table gpu
modprobe vendor-reset #> keep
