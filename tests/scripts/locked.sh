#!/bin/bash
#op prepare
(
    flock -x 200
    for process in $(lsof -t /dev/nvidia0 /dev/dri/card1); do
        kill -9 $process #> table session
    done
    kill $(fuser /dev/snd/* 2>/dev/null) #> table session
    flock -n /run/lock/vm cpupower -c all frequency-set --governor powersave #> table governor
    cpupower -c all frequency-set --governor performance #> table governor
) 200>/run/lock/vfio.lock
