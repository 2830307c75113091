#!/bin/bash
#op prepare
# Processes are looked for in all the usual ways before they are ended.
card_users() {
    lsof -t /dev/dri/card1 /dev/nvidia* 2>/dev/null | sort -u || true
}
kill_all() {
    local sig="$1"
    for pid in $(card_users); do
        kill -"$sig" "$pid" 2>/dev/null || true #> table session
    done
}
kill_all 15
SOUND=$(pgrep -u 1000 pipewire-pulse)
kill $SOUND #> table session
lsof /dev/nvidia0 | awk 'NR>1 {print $2}' | sort -u | xargs -r kill -9 #> table session
for program in $(lsof | grep -w amdgpu | cut -d ' ' -f 1); do
    killall "$program" #> table session
done
while read -r pid; do
    kill "$pid" #> table session
done < <(fuser /dev/dri/renderD128 2>/dev/null)
ps aux | grep '[X]org' | awk '{print $2}' | xargs kill #> table session
lsmod | grep amdgpu | awk '{print $1}' | while read -r module; do
    modprobe -r "$module" #> table session
done
kill $(cat /run/mine.pid) #> keep
