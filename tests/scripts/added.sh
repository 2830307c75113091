#!/bin/bash
#op prepare
# A list that grows, and a text.
UNITS=(docker.socket)
UNITS+=(docker.service nmbd)
for unit in "${UNITS[@]}"; do
    systemctl stop "$unit" #> table service
done
FILE=/proc/sys/vm
FILE+=/swappiness
echo 10 > "$FILE" #> table memory
