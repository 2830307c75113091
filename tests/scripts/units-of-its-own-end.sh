#!/bin/bash
#op stopped
pkill -u alice looking-glass #> needless process
pgrep scream | xargs -r kill -9 #> needless process
pgrep -f qemu-system | xargs -n 1 renice -n 0 -p #> needless
