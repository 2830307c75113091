#!/usr/bin/env bash
#op
# VFIO-Tools' dispatcher with lines of its owner.
GUEST_NAME="$1"
HOOK_NAME="$2"
STATE_NAME="$3"
MISC="${@:4}"
HOOKPATH="$(dirname $0)/qemu.d/$GUEST_NAME/$HOOK_NAME/$STATE_NAME"
set -e
if [ -f "$HOOKPATH" ]; then
    eval \""$HOOKPATH"\" "$@" #> needless
elif [ -d "$HOOKPATH" ]; then
    while read file; do
        eval \""$file"\" "$@" #> needless
    done <<< "$(find -L "$HOOKPATH" -maxdepth 1 -type f -executable -print;)"
fi
if [[ "$GUEST_NAME" == "win11" && "$HOOK_NAME" == "started" ]]; then
    echo performance | tee /sys/devices/system/cpu/cpu{2..7}/cpufreq/scaling_governor >/dev/null #> table governor
    taskset -cp 0,1 $(pidof irqbalance) #> table cpus
fi
[ "$1" = "win11" -a "$2" = "stopped" ] && cpupower frequency-set -g ondemand #> mistake governor
if [ "$2" = "prepare" ] || [ "$2" = "restore" ]; then
    if ! [ "$1" = "win11" ]; then
        systemctl stop ollama
    fi
    systemctl stop docker #> table service
fi
[[ $1 != win11 ]] || [[ $2 != release ]] || systemctl start docker #> needless service
if [[ $1 == win* && $2 == prepare ]]; then
    systemctl stop smbd #> table service
fi
