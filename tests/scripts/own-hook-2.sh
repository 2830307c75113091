#!/usr/bin/env bash
#op
# One file for all operations, with functions of which some are never called.
HOST_CORES='0-1,6-7'
HOST_MASK=C3
VIRT_CORES='2-5,8-11'
log() {
  local text="$*"
  printf "hook: %s\n" "$text" >/dev/kmsg
}
shield() {
  log "host keeps $HOST_CORES"
  cset set -c ${HOST_CORES} -s system #> table cpus
  cset proc -m -f root -t system --force #> table cpus
  echo ${HOST_MASK} >/sys/bus/workqueue/devices/writeback/cpumask #> table cpus
  echo 0 > /sys/bus/workqueue/devices/writeback/numa #> table write
  cset proc --list --set root | awk '{print $2}' | while read -r line; do #> table cpus
    taskset -pc ${HOST_CORES} $line #> table cpus
  done
  for n in 2 3 4 5; do
    echo 0 >/sys/devices/system/cpu/cpu${n}/online #> keep
  done
}
unshield() {
  cset set -d system #> needless cpus
}
irqs() {
  local numbers=($(grep vfio /proc/interrupts | cut -d ":" -f1))
  for i in ${numbers[@]}; do
    echo f3c >/proc/irq/${i}/smp_affinity #> table irqs
  done
}
realtime() {
  chrt -f -a -p $(pidof qemu-system-x86_64)
}
VM=$1
ACTION="$2/$3"
case "$ACTION" in
"prepare/begin")
  echo never >/sys/kernel/mm/transparent_hugepage/enabled #> table memory
  shield
  echo performance | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor #> table governor
  echo 300 >/proc/sys/vm/stat_interval #> table memory
  ;;
"started/begin")
  irqs
  ;;
"release/end")
  unshield
  echo 1 >/proc/sys/vm/stat_interval #> needless memory
  ;;
esac
