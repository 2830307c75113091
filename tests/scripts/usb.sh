#!/bin/sh
#op prepare
echo 1-4 > /sys/bus/usb/drivers/usb/unbind #> table usb
echo '0000:0a:00.3' | tee /sys/bus/pci/drivers/xhci_hcd/unbind #> table pci
