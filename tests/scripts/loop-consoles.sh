#!/bin/sh
#op prepare
log() { echo "$(date) $1" >> /var/log/vfio.log; }
log "consoles"
for (( i = 0; i < 16; i++ )); do
  echo 0 > /sys/class/vtconsole/vtcon$i/bind #> table session
done
