#!/bin/bash
#op prepare
# The desktop is on the other card, and only comes back if it was stopped.
lsmod | grep -q nvidia
FOUND=$?
if [ $FOUND -eq 0 ]; then
    envycontrol -s integrated #> keep
    systemctl stop greetd || true #> table session
    while lsmod | grep -q nouveau; do
        rmmod nouveau || true #> table session
        sleep 1 || : #> mistake
    done
    systemctl start greetd #> table session
fi
virsh nodedev-detach pci_0000_01_00_0 #> table pci
for unit in $(systemctl list-units 'gpu-*' --plain); do
    systemctl stop "$unit" #> keep
done
