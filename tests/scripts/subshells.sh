#!/bin/bash
#op prepare
# What is set in ( ) is not set after it, and an exit in it ends only it.
f() { exit 1; }
( f other )
if [ "$1" = win11 ]; then
    systemctl stop a #> table service
fi
mode=quiet
( mode=loud )
if [ "$mode" = quiet ]; then
    systemctl stop b #> table service
fi
( if grep -q laptop /etc/chassis; then mode=loud; fi )
if [ "$mode" = loud ]; then
    systemctl stop c
fi
for unit in d e; do
    ( unit=f )
    if [ "$unit" = e ]; then
        systemctl stop e #> table service
    fi
done
# Arguments of one call are not those of the script that makes it.
g() { true; }
g 1 2 3 4 five
if [ "${5:-none}" = none ]; then
    systemctl stop g #> table service
fi
