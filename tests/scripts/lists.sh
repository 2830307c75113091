#!/bin/bash
#op started
readonly VCPUS=(2 3)
set_governor() {
    local governor=${1:?governor}
    for cpu in "${VCPUS[@]}"; do
        echo "$governor" > "/sys/devices/system/cpu/cpu${cpu}/cpufreq/scaling_governor" #> table governor
    done
}
set_governor performance
cpupower -c 2-3 frequency-set -d 3.6GHz #> table governor
dmidecode -t memory > /tmp/memory
UNITS="
docker
cups.path
"
for unit in $UNITS; do
    systemctl stop $unit #> table service
done
SOUND=(pulse.socket scream.path)
systemctl stop "${SOUND[1]}" #> table service
systemctl stop "${SOUND[2]}" #> keep
