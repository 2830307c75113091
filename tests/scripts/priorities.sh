#!/bin/bash
#op started
sleep 30 #> mistake
for pid in $(pidof qemu-system-x86_64); do
    renice -n -20 -p $pid #> needless
    chrt -f -p 1 $pid #> needless
    ionice -c 1 -p $pid #> needless
done
for irq in $(grep vfio /proc/interrupts | cut -d: -f1); do
    echo 4-7 > /proc/irq/$irq/smp_affinity_list #> table irqs
done
systemctl stop irqbalance #> table irqs
