#!/bin/sh
#op started
HOST_CPUS=0-3,8-11
systemctl set-property --runtime -- user.slice AllowedCPUs=$HOST_CPUS #> table cpus
systemctl set-property --runtime -- system.slice AllowedCPUs=$HOST_CPUS #> table cpus
systemctl set-property --runtime -- init.scope AllowedCPUs=$HOST_CPUS #> table cpus
systemctl set-property --runtime -- init.slice AllowedCPUs=$HOST_CPUS #> mistake cpus
echo fff > /sys/bus/workqueue/devices/writeback/cpumask #> table cpus
sysctl -q vm.stat_interval=120 #> table memory
sysctl -q kernel.watchdog=0 #> table write
echo never > /sys/kernel/mm/transparent_hugepage/enabled #> table memory
