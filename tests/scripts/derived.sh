#!/bin/bash
#op prepare
# A value made of one that is known only at run time is no better known.
KIND=desktop
if grep -q laptop /etc/chassis; then
    KIND=laptop
fi
UNIT="for-$KIND"
if [ "$UNIT" = for-desktop ]; then
    systemctl stop a #> table service
else
    systemctl stop b #> table service
fi
