#!/bin/bash
#op prepare
# Whether MODE is set here is known only at run time, so either arm may be taken.
MODE=b
if grep -q laptop /etc/chassis; then
    MODE=a
fi
case "$MODE" in
    a) systemctl stop a ;; #> table service
    b) systemctl stop b ;; #> table service
esac
# From here on it is known again.
MODE=b
case "$MODE" in
    a) systemctl stop c ;;
    b) systemctl stop d ;; #> table service
esac
