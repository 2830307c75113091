#!/bin/bash
#op prepare
pkill -f Xorg #> table session
kill -9 $(pidof Xwayland) #> table session
kill $(pgrep -x gamescope) #> keep
modprobe -ra i915 snd_hda_intel #> table session
modprobe --remove amdgpu #> table session
modprobe kvmfr static_size_mb=64 #> table shm
