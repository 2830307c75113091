#!/bin/bash
#op
# A hook of one's own, for one VM, as it is found in many places.
OBJECT="$1"
OPERATION="$2"
if [[ $OBJECT == "win11" ]]; then
    case "$OPERATION" in
        "prepare")
            systemctl start libvirt-nosleep@"$OBJECT" 2>&1 | tee -a /var/log/libvirt/custom.log #> table inhibit
            cpupower frequency-set -g performance #> table governor
            ;;
        "release")
            systemctl stop libvirt-nosleep@"$OBJECT" #> needless inhibit
            ;;
    esac
fi
